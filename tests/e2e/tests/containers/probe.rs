//! Programs for containers whose image has none that does it. This file's own executable, which is
//! static, is mounted into the container. There it is told to run one of the functions here.

#![allow(unsafe_code, reason = "shared memory of a file can't be had otherwise")]

use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use harness::cri::ContainerSpec;
use rustix::fs::FlockOperation;
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::time::{ClockId, DynamicClockId, Timespec, clock_gettime, clock_gettime_dynamic};

/// Where containers have it.
pub(crate) const PLACE: &str = "/probe";

/// Adds the program to a container.
pub(crate) fn given(spec: ContainerSpec) -> ContainerSpec {
    spec.mount_read_only(&std::env::current_exe().unwrap(), PLACE)
}

/// The command that runs the function `name`, in a shell.
pub(crate) fn command(name: &str) -> String {
    format!("{PLACE} --ignored --exact probe::{name} --nocapture")
}

/// Writes into `/out/events` what happens in `/shared`, one name a line.
#[test]
#[ignore = "runs in a container"]
fn events() {
    let watch = inotify::init(CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&watch, "/shared", WatchFlags::CLOSE_WRITE | WatchFlags::CREATE).unwrap();
    let mut out = std::fs::File::create("/out/events").unwrap();
    writeln!(out, "watching").unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(watch, &mut buffer);
    loop {
        let event = reader.next().unwrap();
        let name = event.file_name().map(|name| name.to_str().unwrap().to_owned());
        writeln!(out, "{}", name.unwrap_or_default()).unwrap();
    }
}

/// Answers at `/shared/socket`.
#[test]
#[ignore = "runs in a container"]
fn answer() {
    let listener = UnixListener::bind("/shared/socket").unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut asked = String::new();
        stream.read_to_string(&mut asked).unwrap();
        write!(stream, "{asked} heard").unwrap();
    }
}

/// Asks at `/shared/socket`.
#[test]
#[ignore = "runs in a container"]
fn ask() {
    let mut stream = UnixStream::connect("/shared/socket").unwrap();
    stream.write_all(b"question").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    println!("{answer}");
}

/// Locks `/shared/lock`, and stays.
#[test]
#[ignore = "runs in a container"]
fn lock() {
    let file = std::fs::File::create("/shared/lock").unwrap();
    rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
    loop {
        std::thread::park();
    }
}

/// Tells whether somebody else has locked `/shared/lock`.
#[test]
#[ignore = "runs in a container"]
fn try_lock() {
    let file = std::fs::File::create("/shared/lock").unwrap();
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => println!("lock is free"),
        Err(Errno::WOULDBLOCK) => println!("lock is held"),
        Err(error) => panic!("{error}"),
    }
}

/// Writes to `/shared/mapped`, which is a page long, by memory, and stays.
#[test]
#[ignore = "runs in a container"]
fn map() {
    let file = std::fs::File::options().read(true).write(true).open("/shared/mapped").unwrap();
    let (access, length) = (ProtFlags::READ | ProtFlags::WRITE, 4096);
    // SAFETY: a new mapping, at an address of the kernel's choice, that nobody else knows.
    let memory = unsafe {
        rustix::mm::mmap(std::ptr::null_mut(), length, access, MapFlags::SHARED, &file, 0).unwrap()
    };
    let text = b"by memory";
    // SAFETY: the mapping is longer than the text, and writable.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), memory.cast::<u8>(), text.len()) };
    println!("mapped");
    loop {
        std::thread::park();
    }
}

/// Tells again and again how far the host's clock is ahead of the guest's, in nanoseconds. The
/// guest's devices are at `/data`.
#[test]
#[ignore = "runs in a container"]
fn clock() {
    let device = std::fs::File::open("/data/ptp0").unwrap();
    let unix_ns = |time: Timespec| time.tv_sec * 1_000_000_000 + time.tv_nsec;
    let look = || {
        let before = unix_ns(clock_gettime(ClockId::Realtime));
        let host = clock_gettime_dynamic(DynamicClockId::Dynamic(device.as_fd())).unwrap();
        let after = unix_ns(clock_gettime(ClockId::Realtime));
        (after - before, unix_ns(host) - before)
    };
    loop {
        let (took, ahead) = (0..200).map(|_| look()).min().unwrap();
        println!("the host is ahead by {} +- {}", ahead - took / 2, took / 2);
        std::thread::sleep(Duration::from_millis(100));
    }
}
