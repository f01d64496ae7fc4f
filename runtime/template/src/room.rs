//! Whether there is room for one more template (pure, but for what the host is asked). A host that
//! runs short of memory must not lose pods to what should make them start sooner.

use std::path::Path;

use host::capacity::{available_mib, host_memory_mib};

use crate::TemplateError;

/// What a guest touches until it can be saved, whatever its size: kernel, agent, and what the kernel
/// makes of its devices. Also what builder and VMM take.
const GUEST_MIB: u64 = 72;

/// Part of a guest's memory that its kernel keeps about the rest, a page's 64 bytes.
const PART_OF_TABLES: u64 = 64;

/// Part of the host's memory that stays free.
const PART_KEPT: u64 = 20;

/// Memory that stays free at the least.
const LEAST_KEPT_MIB: u64 = 64;

/// What there is, in MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    host: u64,
    available: u64,
    store: u64,
}

impl Room {
    /// What the host and the store at `path` have now.
    ///
    /// # Errors
    /// [`TemplateError::Store`] if the store does not tell.
    pub(crate) fn of(path: &Path) -> Result<Self, TemplateError> {
        let failed = |source: std::io::Error| TemplateError::Store {
            doing: "asking for the room in",
            path: path.to_owned(),
            source,
        };
        let found = rustix::fs::statvfs(path).map_err(|error| failed(error.into()))?;
        let meminfo = std::fs::read_to_string("/proc/meminfo").map_err(failed)?;
        Ok(Self {
            host: host_memory_mib(&meminfo).unwrap_or(0),
            available: available_mib(&meminfo).unwrap_or(0),
            store: found.f_bavail.saturating_mul(found.f_frsize) >> 20,
        })
    }
}

/// Refuses a template of `memory` MiB for which there is no room.
///
/// # Errors
/// [`TemplateError::NoRoom`] with the numbers.
pub(crate) fn check(memory: u64, room: &Room) -> Result<(), TemplateError> {
    let needs = GUEST_MIB + memory / PART_OF_TABLES;
    let kept = (room.host / PART_KEPT).max(LEAST_KEPT_MIB);
    let refused = |where_: &str, has: u64| {
        let text = format!("one of {memory} MiB takes about {needs} MiB, and {where_} has {has}");
        Err(TemplateError::NoRoom(text))
    };
    if room.available < needs + kept {
        return refused("the host, which keeps some free,", room.available.saturating_sub(kept));
    }
    if room.store < needs {
        return refused("the store", room.store);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_keeps_a_part_of_its_memory() {
        let room = |available, store| Room { host: 4000, available, store };
        // 80 for the template, 200 for the host.
        assert!(check(512, &room(280, 80)).is_ok());
        let error = check(512, &room(279, 80)).unwrap_err().to_string();
        assert!(error.contains("512 MiB takes about 80 MiB") && error.contains("79"), "{error}");
        let error = check(512, &room(4000, 79)).unwrap_err().to_string();
        assert!(error.contains("the store has 79"), "{error}");
    }

    #[test]
    fn this_host_tells_its_room() {
        let room = Room::of(Path::new("/")).unwrap();
        assert!(room.host > 0 && room.available > 0 && room.available <= room.host, "{room:?}");
    }
}
