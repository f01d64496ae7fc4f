//! Windows that the kernel is not told of at boot, because each costs boot time. The machine has a
//! table that announces them (an ACPI SSDT), inside of one that the kernel only shows.

use std::io::{self, ErrorKind, Write};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// The table that the kernel shows; the VMM gives it this name.
const TABLE: &str = "/sys/firmware/acpi/tables/CUDW";

/// Bytes of its header, behind which is the one that announces (ACPI 6.5 §5.2.6).
const HEADER: usize = 36;

/// Whether drivers are bound to devices that appear. Windows are bound one by one, when the host
/// says that something is in them.
const AUTOPROBE: &str = "/sys/bus/platform/drivers_autoprobe";

/// Where a table is loaded in configfs (`Documentation/ABI/testing/configfs-acpi`).
const PLACE: &str = "acpi/table/windows";

/// Whether that was done.
static LOADED: Mutex<bool> = Mutex::new(false);

/// Whether the kernel was told of the other windows.
pub(super) fn is_loaded() -> bool {
    *LOADED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the kernel of the other windows, once. They appear soon after.
///
/// # Errors
/// The machine has no such table, or the kernel takes none.
pub(super) fn load() -> io::Result<()> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if *loaded {
        return Ok(());
    }
    let table = std::fs::read(TABLE)?;
    let inner = table.get(HEADER..).ok_or(ErrorKind::UnexpectedEof)?;
    std::fs::write(AUTOPROBE, "0")?;
    let context = fsopen("configfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    // Nobody sees this mount, and it goes with the descriptor. What was made in it stays.
    let configfs = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    mkdirat(&configfs, PLACE, Mode::from(0o700))?;
    let file = format!("{PLACE}/aml");
    let file = openat(&configfs, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    // The kernel reads the whole as the file is closed.
    std::fs::File::from(file).write_all(inner)?;
    *loaded = true;
    Ok(())
}
