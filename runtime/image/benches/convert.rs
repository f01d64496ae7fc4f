//! How fast a layer becomes an EROFS file, and how much memory that takes: `cargo bench -p image`.
//! The layer is made up: files of 64 KiB of words, as large as its argument says in MiB (512).
//!
//! One thread converts one layer, so a node's rate is this times the layers side by side.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::time::Instant;

use erofs::Options;
use flate2::write::GzEncoder;
use image::digest::{Algorithm, Digest, Hasher};
use image::layer::{Expected, convert};
use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

/// Bytes of a file of the layer.
const FILE: usize = 64 << 10;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let argument = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let files = argument.unwrap_or(512_usize) * (1 << 20) / FILE;
    let mut plain = tempfile::tempfile()?;
    write_archive(files, &mut plain)?;
    let diff_id = digest(&mut plain)?;
    println!("layer of {files} files, {} MiB", (files * FILE) >> 20);
    measure("tar", &mut plain, &diff_id)?;
    let mut gzip = GzEncoder::new(tempfile::tempfile()?, flate2::Compression::new(6));
    rewound(&mut plain)?;
    io::copy(&mut plain, &mut gzip)?;
    measure("gzip -6", &mut gzip.finish()?, &diff_id)?;
    let mut zstd = zstd::Encoder::new(tempfile::tempfile()?, 3)?;
    rewound(&mut plain)?;
    io::copy(&mut plain, &mut zstd)?;
    measure("zstd -3", &mut zstd.finish()?, &diff_id)
}

/// Writes an archive of so many files. Their words are by chance, but the same each time.
fn write_archive(files: usize, out: &mut impl Write) -> Result<()> {
    let mut seed = 1_u64;
    let mut content = Vec::with_capacity(FILE + 16);
    for number in 0..files {
        content.clear();
        while content.len() < FILE {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            write!(content, "{:x} ", (seed >> 40) % 50_000)?;
        }
        content.truncate(FILE);
        let mut entry = EntryBuilder::new_ustar();
        entry.path(format!("usr/share/{}/{number}", number % 100));
        entry.entry_type(EntryType::Regular).mode(0o644)?.size(FILE as u64)?;
        out.write_all(&entry.finish_bytes())?;
        out.write_all(&content)?;
    }
    Ok(out.write_all(&[0; 1024])?)
}

fn rewound(file: &mut File) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))
}

fn digest(file: &mut File) -> Result<Digest> {
    rewound(file)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Converts a layer, and prints how long it took.
fn measure(name: &str, layer: &mut File, diff_id: &Digest) -> Result<()> {
    let (digest, size) = (digest(layer)?, layer.metadata()?.len());
    rewound(layer)?;
    let expected = Expected { digest, size, diff_id: Some(diff_id.clone()) };
    let output = tempfile::tempfile()?;
    let start = Instant::now();
    let source = BufReader::with_capacity(256 << 10, layer);
    let made = convert(source, &expected, &output, Options::default())?;
    let seconds = start.elapsed().as_secs_f64();
    let bytes = u32::try_from(made.archive >> 10).map(f64::from)? / 1024.0;
    let rate = bytes / seconds;
    println!("{name:8} {seconds:6.2} s  {rate:6.1} MiB/s of archive  {} so far", peak()?);
    Ok(())
}

/// The most memory that this process has had (proc_pid_status(5)).
fn peak() -> Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(format!("peak of memory {}", line.ok_or("no VmHWM")?.trim()))
}
