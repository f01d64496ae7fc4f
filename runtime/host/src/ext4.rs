//! File systems for what containers write: ext4 in sparse files, made by `mkfs.ext4`. No library
//! makes them.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use api::Error;

/// The program, of the package e2fsprogs.
const PROGRAM: &str = "mkfs.ext4";

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes an empty file system in the file `image`, which has its size. It has no journal: what a
/// crash leaves of a container is never used again. Its tables stay holes until they are used.
///
/// # Errors
/// [`Error::Failed`] with what the program said, or that it is missing. [`Error::Deadline`] when it
/// takes more than a minute.
pub async fn format(image: &Path) -> Result<(), Error> {
    format_by(PROGRAM, image).await
}

async fn format_by(program: &str, image: &Path) -> Result<(), Error> {
    let doing = format!("making a file system in {}", image.display());
    let failed = |reason: &dyn std::fmt::Display| Error::Failed(format!("{doing}: {reason}"));
    let mut command = tokio::process::Command::new(program);
    command.args(["-q", "-F", "-m", "0", "-O", "^has_journal"]);
    command.args(["-E", "nodiscard,lazy_itable_init=1"]).arg(image);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match tokio::time::timeout(PATIENCE, output).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Err(failed(&format!("there is no {program}: install e2fsprogs")));
        }
        Ok(Err(error)) => return Err(failed(&error)),
        Err(_) => {
            let limit = PATIENCE.as_secs();
            return Err(Error::Deadline(format!("{doing}: {program} takes more than {limit} s")));
        }
    };
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(failed(&format!("{program} said {:?}", text.trim())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn program_that_is_missing_or_fails_is_told() {
        let image = Path::new("/no/such/image");
        let missing = format_by("mkfs.of-nobody", image).await.unwrap_err().to_string();
        let text = "making a file system in /no/such/image: there is no mkfs.of-nobody: \
                    install e2fsprogs";
        assert_eq!(missing, text);
        let failed = format_by("cat", image).await.unwrap_err().to_string();
        assert!(failed.contains("/no/such/image: cat said \"cat: "), "{failed}");
    }
}
