//! The measured guest's root filesystem. It has the host's own fio, iperf3 and busybox with their
//! libraries. A script in it runs every measure and prints what each says.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};

use super::measures::Measure;
use super::{Broken, Numbers};

const PRELUDE: &str = "#!/bin/sh
export PATH=/bin:/usr/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs none /tmp
cd /tmp
ip link set lo up
ip addr add 10.9.0.2/24 dev eth0
ip link set eth0 up
mount -t virtiofs share /mnt
for name in vda vdb; do [ $(cat /sys/block/$name/ro) = 1 ] || data=/dev/$name; done
job='--name=perf --output-format=json --thread'
disk=\"$job --filename=$data --direct=1\"
share=\"$job --filename=/mnt/data --direct=1\"
";

const APPLETS: &[&str] = &["sh", "mount", "ip", "cat", "echo", "poweroff", "["];

/// Writes the image of a guest that measures `wanted` to `image`, by way of `tree`.
pub(super) fn image(tree: &Path, image: &Path, wanted: &[&Measure]) -> Result<()> {
    for name in ["bin", "sbin", "dev", "proc", "sys", "tmp", "mnt", "etc"] {
        fs::create_dir_all(tree.join(name))?;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    let busybox = busybox.context("busybox is missing: install busybox-static")?;
    fs::copy(busybox, tree.join("bin/busybox")).context("copying busybox")?;
    for applet in APPLETS {
        symlink("busybox", tree.join("bin").join(applet))?;
    }
    for program in ["/usr/bin/fio", "/usr/bin/iperf3"] {
        copy(program, tree)?;
        for library in libraries(program)? {
            copy(&library, tree)?;
        }
    }
    fs::write(tree.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n")?;
    let init = tree.join("sbin/init");
    fs::write(&init, script(wanted))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let made = Command::new("mkfs.erofs").arg("--quiet").args([image, tree]).output();
    let made = made.context("executing mkfs.erofs; is erofs-utils installed?")?;
    ensure!(made.status.success(), "mkfs.erofs: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

fn script(wanted: &[&Measure]) -> String {
    let mut script = PRELUDE.to_owned();
    for Measure { name, command, .. } in wanted {
        // Writing to a string can't fail.
        let _ = writeln!(script, "echo \"=== {name}\"; {command} 2>&1; echo \"=== exit $?\"");
    }
    script + "echo \"=== end\"\npoweroff -f\n"
}

/// Copies a file to the same place below `tree`.
fn copy(path: &str, tree: &Path) -> Result<()> {
    let target = tree.join(path.trim_start_matches('/'));
    if target.exists() {
        return Ok(());
    }
    fs::create_dir_all(target.parent().context("file without a directory")?)?;
    fs::copy(path, &target).with_context(|| format!("copying {path}"))?;
    Ok(())
}

/// What the loader says that a program needs.
fn libraries(program: &str) -> Result<Vec<String>> {
    let told = Command::new("ldd").arg(program).output().context("executing ldd")?;
    ensure!(told.status.success(), "ldd {program}: is it installed?");
    let text = String::from_utf8(told.stdout)?;
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect())
}

/// The numbers in what a guest has printed.
pub(super) fn numbers(console: &str, wanted: &[&'static Measure]) -> Result<Numbers> {
    let console = console.replace('\r', "");
    if !console.contains("=== end") {
        let last = console.lines().rfind(|line| line.starts_with("===")).unwrap_or("not begun");
        return Err(anyhow!("the guest did not come to its end: {last}").context(Broken));
    }
    let mut numbers = Numbers::new();
    for measure in wanted {
        let head = format!("=== {}\n", measure.name);
        let answer = console.split(&head).nth(1).unwrap_or_default();
        let (answer, rest) = answer.split_once("\n=== exit ").unwrap_or((answer, ""));
        ensure!(rest.starts_with("0\n"), "{}: the command failed: {answer}", measure.name);
        numbers.insert(measure.name, measure.number(answer)?);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::measures::MEASURES;

    #[test]
    fn a_command_that_fails_gives_no_number() {
        let console = |code: u32| {
            let report = "{\"jobs\": [{\"error\": 0, \"read\": {\"bw_bytes\": 2e6}}]}";
            format!("=== {}\r\n{report}\r\n=== exit {code}\r\n=== end\r\n", MEASURES[0].name)
        };
        let wanted = [&MEASURES[0]];
        assert_eq!(numbers(&console(0), &wanted).unwrap()[MEASURES[0].name], 2.0);
        assert!(numbers(&console(1), &wanted).is_err());
        assert!(numbers("=== end", &wanted).is_err());
        let error = numbers("=== one\n{\n=== exit 0\n=== two\n{", &wanted).unwrap_err();
        assert!(error.is::<Broken>() && format!("{error:#}").ends_with(": === two"), "{error:#}");
    }
}
