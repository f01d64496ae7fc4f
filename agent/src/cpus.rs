//! The guest's CPUs. A machine boots with one of them online, because each costs boot time; the
//! host says how many its pod may use (Linux `Documentation/core-api/cpu_hotplug.rst`).

use std::path::Path;

use crate::error::{Error, Result};

const DEVICES: &str = "/sys/devices/system/cpu";

/// Makes `count` CPUs be online, the first ones. Does nothing when they are.
///
/// # Errors
/// The machine has fewer CPUs, or the kernel refuses to switch one.
pub(crate) fn set_online(count: u32) -> Result<()> {
    switch(Path::new(DEVICES), count)
}

fn switch(devices: &Path, count: u32) -> Result<()> {
    let directory = |index: u32| devices.join(format!("cpu{index}"));
    let present = (0..).take_while(|&index| directory(index).exists()).count();
    if usize::try_from(count).is_ok_and(|count| count > present) || count == 0 {
        return Err(Error::Invalid(format!("{count} CPUs online: the machine has 1 to {present}")));
    }
    // The first CPU can't be switched: it has no such file.
    for index in (1..).take_while(|&index| directory(index).exists()) {
        let file = directory(index).join("online");
        let wanted = if index < count { "1" } else { "0" };
        let doing = || Error::io(format!("switch CPU {index} to {wanted}"));
        if std::fs::read_to_string(&file).map_err(doing())?.trim() != wanted {
            std::fs::write(&file, wanted).map_err(doing())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::switch;
    use std::path::Path;

    fn devices(online: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (index, state) in online.iter().enumerate() {
            let cpu = dir.path().join(format!("cpu{index}"));
            std::fs::create_dir(&cpu).unwrap();
            if index > 0 {
                std::fs::write(cpu.join("online"), format!("{state}\n")).unwrap();
            }
        }
        std::fs::create_dir(dir.path().join("cpufreq")).unwrap();
        dir
    }

    fn states(dir: &Path) -> Vec<String> {
        let read = |index| std::fs::read_to_string(dir.join(format!("cpu{index}/online")));
        (1..4).map(|index| read(index).unwrap().trim().to_owned()).collect()
    }

    #[test]
    fn the_first_cpus_are_online_and_no_others() {
        let dir = devices(&["", "0", "0", "1"]);
        for _ in 0..2 {
            switch(dir.path(), 3).unwrap();
            assert_eq!(states(dir.path()), ["1", "1", "0"]);
        }
        switch(dir.path(), 1).unwrap();
        assert_eq!(states(dir.path()), ["0", "0", "0"]);
    }

    #[test]
    fn more_cpus_than_there_are_is_refused_with_both_numbers() {
        let dir = devices(&["", "0"]);
        let error = switch(dir.path(), 3).unwrap_err().to_string();
        assert!(error.contains("3 CPUs") && error.contains("1 to 2"), "{error}");
    }
}
