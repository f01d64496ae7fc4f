//! Landlock, by which the VMM's jail judges files and signals.
#![allow(unsafe_code, reason = "asking for the version is in no library that is safe")]

use super::Check;

const TOPIC: &str = "landlock";

/// Asks for the version (landlock_create_ruleset(2)).
const VERSION: libc::c_uint = 1;

/// The first version that can allow a rename between directories, which a share needs.
const FILES: i64 = 2;

/// The first version that knows of signals.
const SIGNALS: i64 = 6;

pub(super) fn check() -> Check {
    evaluate(&version())
}

/// The version that the kernel offers.
fn version() -> Result<i64, std::io::Error> {
    // SAFETY: with this flag the call reads no memory; the kernel checks the numbers.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION)
    };
    if version < 0 { Err(std::io::Error::last_os_error()) } else { Ok(version) }
}

fn evaluate(version: &Result<i64, std::io::Error>) -> Check {
    const WAY_OUT: &str = "Pods run, with the rest of the jail. Better use Linux 5.19 or newer with \
         CONFIG_SECURITY_LANDLOCK, and `landlock` in the list of /sys/kernel/security/lsm (boot \
         parameter lsm=).";
    match version {
        Ok(version) if *version >= SIGNALS => {
            Check::ok(TOPIC, format!("version {version}: files and signals of a VMM"))
        }
        Ok(version) if *version >= FILES => Check::ok(
            TOPIC,
            format!("version {version}: files of a VMM; signals need {SIGNALS} (Linux 6.12)"),
        ),
        Ok(version) => Check::warning(
            TOPIC,
            format!("version {version} is of no use: {FILES} or newer is needed"),
            WAY_OUT,
        ),
        Err(error) => {
            let found = match error.raw_os_error() {
                Some(libc::ENOSYS) => "the kernel has no Landlock".to_owned(),
                Some(libc::EOPNOTSUPP) => "Landlock is switched off on this host".to_owned(),
                _ => format!("asking for Landlock's version: {error}"),
            };
            Check::warning(TOPIC, found, WAY_OUT)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn version_says_what_a_vmm_is_kept_from() {
        assert!(evaluate(&Ok(7)).found.contains("files and signals"));
        let files = evaluate(&Ok(5));
        assert!(files.status == Status::Ok && files.found.contains("6.12"), "{files:?}");
        assert_eq!(evaluate(&Ok(1)).status, Status::Warning);
        for (errno, found) in [(libc::ENOSYS, "no Landlock"), (libc::EOPNOTSUPP, "switched off")] {
            let check = evaluate(&Err(std::io::Error::from_raw_os_error(errno)));
            assert_eq!(check.status, Status::Warning);
            assert!(check.found.contains(found), "{check:?}");
        }
    }

    #[test]
    fn kernel_of_the_tests_answers() {
        match version() {
            Ok(version) => assert!(version >= 1, "{version}"),
            Err(error) => {
                let known =
                    [libc::ENOSYS, libc::EOPNOTSUPP].contains(&error.raw_os_error().unwrap());
                assert!(known, "{error}");
            }
        }
    }
}
