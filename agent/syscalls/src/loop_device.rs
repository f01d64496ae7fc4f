//! Loop devices: a file as a block device (loop(4)).
#![allow(unsafe_code, reason = "loop devices are set up by ioctls that no library we use knows")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// ioctls of `linux/loop.h`.
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;

/// Flags of a device.
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// How often another free device is looked for: others look, too.
const ATTEMPTS: u32 = 64;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// A loop device. It ends with its last user: the drop of this, if it was never mounted.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _device: File,
}

impl LoopDevice {
    /// Shows a file as a block device that can only be read. The file is read past the page cache
    /// where its file system can do so: what is read is kept once then. Linux 5.8 and later.
    ///
    /// # Errors
    /// What the kernel answered, and that all free devices were taken by others meanwhile.
    pub fn read_only(file: &File) -> io::Result<Self> {
        let control = File::options().read(true).write(true).open("/dev/loop-control")?;
        for _ in 0..ATTEMPTS {
            // SAFETY: the ioctl takes no argument.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            if number < 0 {
                return Err(io::Error::last_os_error());
            }
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = File::options().read(true).open(&path)?;
            match configure(&device, file, DIRECT_IO).or_else(|error| match error.raw_os_error() {
                Some(libc::EBUSY) => Err(error),
                _ => configure(&device, file, 0),
            }) {
                Ok(()) => return Ok(Self { path, _device: device }),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "others take every free loop device"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn configure(device: &File, file: &File, more: u32) -> io::Result<()> {
    let fd = u32::try_from(file.as_raw_fd()).map_err(io::Error::other)?;
    let info = Info {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: READ_ONLY | AUTOCLEAR | more,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    let config = Config { fd, block_size: 0, info, reserved: [0; 8] };
    // SAFETY: the ioctl reads a `loop_config`, which is live and has the kernel's layout.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn layout_is_the_kernels() {
        assert_eq!((size_of::<Info>(), size_of::<Config>()), (232, 304));
        assert_eq!(std::mem::offset_of!(Info, flags), 52);
    }

    #[test]
    fn file_is_a_device_until_its_last_user_goes() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 8192]).unwrap();
        let device = LoopDevice::read_only(&File::open(file.path()).unwrap()).unwrap();
        let path = device.path().to_owned();
        let mut text = Vec::new();
        File::open(&path).unwrap().read_to_end(&mut text).unwrap();
        assert!(text == [7; 8192]);
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let backing = PathBuf::from(format!("/sys/block/{name}/loop/backing_file"));
        assert!(backing.exists());
        drop(device);
        let begun = std::time::Instant::now();
        while backing.exists() {
            assert!(begun.elapsed().as_secs() < 20, "{} stays", path.display());
            std::thread::yield_now();
        }
    }
}
