//! Cuddy's own files: the configuration, the guest's kernel and root image, the VMM.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use host::{Config, ConfigError};

use super::Check;

const CONFIG: &str = "config";
const KERNEL: &str = "kernel";
const ROOTFS: &str = "rootfs";
const VMM: &str = "vmm";

/// Bytes of the ELF header that tell a 64-bit x86 executable.
const ELF_HEADER: usize = 20;
/// Where EROFS keeps its superblock, and what that starts with.
const EROFS_OFFSET: u64 = 1024;
const EROFS_MAGIC: [u8; 4] = 0xe0f5_e1e2_u32.to_le_bytes();

const INSTALL: &str = "Install Cuddy completely, or name the right file in /etc/cuddy/config.toml.";

/// Checks the configuration and the files it names; returns the configuration if it is valid.
pub(super) fn check() -> (Vec<Check>, Option<Config>) {
    let (config, check) = judge_config(Config::load());
    let mut checks = vec![check];
    if let Some(config) = &config {
        checks
            .push(file(KERNEL, &config.kernel, |file| Ok(kernel(&read_at(file, 0, ELF_HEADER)?))));
        checks.push(file(ROOTFS, &config.rootfs, |file| {
            Ok(rootfs(&read_at(file, EROFS_OFFSET, EROFS_MAGIC.len())?))
        }));
        checks.push(file(VMM, &config.vmm, |file| Ok(vmm(file.metadata()?.permissions().mode()))));
    }
    (checks, config)
}

fn judge_config(loaded: Result<Config, ConfigError>) -> (Option<Config>, Check) {
    match loaded {
        Ok(config) => {
            let found = format!(
                "valid; a machine has {} vCPU and {} MiB by default",
                config.default_vcpus, config.default_memory_mib
            );
            (Some(config), Check::ok(CONFIG, found))
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|e| format!(": {e}"));
            let found = format!("{error}{}", cause.unwrap_or_default());
            (None, Check::failed(CONFIG, found, "Correct the file."))
        }
    }
}

/// Opens a file and judges it; the judge returns what is wrong with it.
fn file(
    topic: &'static str,
    path: &Path,
    judge: impl FnOnce(&mut File) -> io::Result<Option<&'static str>>,
) -> Check {
    let shown = path.display();
    match File::open(path).and_then(|mut file| judge(&mut file)) {
        Ok(None) => Check::ok(topic, shown.to_string()),
        Ok(Some(problem)) => Check::failed(topic, format!("{shown} {problem}"), INSTALL),
        Err(error) => Check::failed(topic, format!("{shown}: {error}"), INSTALL),
    }
}

/// The bytes there; fewer when the file is shorter.
fn read_at(file: &mut File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// ELF header: magic, class 2 (64-bit) at 4, data 1 (little-endian) at 5, machine 62 at 18.
fn kernel(header: &[u8]) -> Option<&'static str> {
    match header {
        [0x7f, b'E', b'L', b'F', 2, 1, .., 62, 0] if header.len() == ELF_HEADER => None,
        [0x7f, b'E', b'L', b'F', ..] => Some("is not an ELF file for 64-bit x86"),
        _ => Some("is not an ELF file; an uncompressed vmlinux is needed"),
    }
}

fn rootfs(magic: &[u8]) -> Option<&'static str> {
    (magic != EROFS_MAGIC).then_some("is not an EROFS image")
}

fn vmm(mode: u32) -> Option<&'static str> {
    (mode & 0o111 == 0).then_some("is not executable")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::Status;
    use super::*;

    #[test]
    fn kernels_are_told_by_their_header() {
        let mut header = [0_u8; ELF_HEADER];
        header[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        header[18] = 62;
        assert_eq!(kernel(&header), None);
        assert!(kernel(&header[..19]).is_some(), "truncated");
        header[18] = 183;
        assert_eq!(kernel(&header), Some("is not an ELF file for 64-bit x86"));
        assert!(kernel(b"MZ").unwrap().contains("uncompressed"));
    }

    #[test]
    fn files_are_read_at_their_offsets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rootfs.erofs");
        let judged =
            || file(ROOTFS, &path, |f| Ok(rootfs(&read_at(f, EROFS_OFFSET, EROFS_MAGIC.len())?)));
        assert!(judged().found.contains("No such file"));
        std::fs::write(&path, b"short").unwrap();
        assert!(judged().found.ends_with("is not an EROFS image"));
        let mut image = vec![0_u8; 1024];
        image.extend([0xe2, 0xe1, 0xf5, 0xe0, 0, 0]);
        std::fs::write(&path, image).unwrap();
        assert_eq!(judged().status, Status::Ok);
    }

    #[test]
    fn a_vmm_must_be_executable() {
        assert_eq!(vmm(0o100_755), None);
        assert!(vmm(0o100_644).is_some());
    }

    #[test]
    fn a_bad_configuration_is_quoted() {
        let error = ConfigError::UnknownKey {
            path: PathBuf::from("/etc/cuddy/config.toml"),
            key: "kernal".into(),
            nearest: "kernel",
        };
        let (config, check) = judge_config(Err(error));
        assert!(config.is_none());
        assert!(check.found.contains("kernal") && check.found.contains("\"kernel\""));
    }
}
