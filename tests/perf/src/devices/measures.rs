//! What is measured: a command in the guest and where its number is in the answer.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Which of two numbers is the better one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Better {
    More,
    Less,
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measure {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    /// The command, which prints JSON.
    pub(super) command: &'static str,
    /// Path of the number in it.
    pub(super) pointer: &'static str,
    /// What one unit is in the answer's.
    pub(super) scale: f64,
}

impl Measure {
    /// The number in what the command printed.
    pub(super) fn number(&self, answer: &str) -> Result<f64> {
        // fio prints warnings before its report.
        let report = answer.find('{').map_or("", |start| &answer[start..]);
        let report: Value = serde_json::from_str(report)
            .with_context(|| format!("{}: no report in {answer:?}", self.name))?;
        // fio counts what failed here, and may go on and end in order.
        if let Some(error) = report.pointer("/jobs/0/error") {
            ensure!(*error == 0, "{}: fio's error {error}", self.name);
        }
        let number = report.pointer(self.pointer).and_then(Value::as_f64);
        let number = number.with_context(|| format!("{}: no {}", self.name, self.pointer))?;
        // Nothing takes no time, and nothing that was moved has no rate.
        ensure!(number.is_finite() && number > 0.0, "{}: {number}", self.name);
        Ok(number / self.scale)
    }
}

const READ_RATE: &str = "/jobs/0/read/bw_bytes";
const READ_LATENCY: &str = "/jobs/0/read/lat_ns/mean";
const WRITE_RATE: &str = "/jobs/0/write/bw_bytes";
const WRITE_LATENCY: &str = "/jobs/0/write/lat_ns/mean";
const TCP_RATE: &str = "/end/sum_received/bits_per_second";

const fn rate(name: &'static str, command: &'static str, pointer: &'static str) -> Measure {
    Measure { name, unit: "MB/s", better: Better::More, command, pointer, scale: 1e6 }
}

const fn latency(name: &'static str, command: &'static str, pointer: &'static str) -> Measure {
    Measure { name, unit: "us", better: Better::Less, command, pointer, scale: 1e3 }
}

const fn tcp(name: &'static str, command: &'static str) -> Measure {
    let (unit, better, pointer, scale) = ("Mb/s", Better::More, TCP_RATE, 1e6);
    Measure { name, unit, better, command, pointer, scale }
}

/// All of them. `$disk` and `$share` are the guest's.
pub(super) const MEASURES: &[Measure] = &[
    rate(
        "disk, read 128 KiB, 8 at once",
        "fio $disk --ioengine=libaio --iodepth=8 --rw=read --bs=128k --size=64m",
        READ_RATE,
    ),
    rate(
        "disk, write 128 KiB, 8 at once",
        "fio $disk --ioengine=libaio --iodepth=8 --rw=write --bs=128k --size=64m",
        WRITE_RATE,
    ),
    rate(
        "disk, random read 4 KiB, 16 at once",
        "fio $disk --ioengine=libaio --iodepth=16 --rw=randread --bs=4k --size=64m --io_size=12m",
        READ_RATE,
    ),
    latency(
        "disk, random read 4 KiB, latency",
        "fio $disk --ioengine=psync --rw=randread --bs=4k --size=64m --io_size=6m",
        READ_LATENCY,
    ),
    latency(
        "disk, random write 4 KiB, latency",
        "fio $disk --ioengine=psync --rw=randwrite --bs=4k --size=64m --io_size=6m",
        WRITE_LATENCY,
    ),
    rate(
        "share, read 128 KiB",
        "fio $share --ioengine=psync --rw=read --bs=128k --size=64m",
        READ_RATE,
    ),
    rate(
        "share, write 128 KiB",
        "fio $share --ioengine=psync --rw=write --bs=128k --size=64m",
        WRITE_RATE,
    ),
    rate(
        "share, read 128 KiB, 8 at once",
        "fio $share --ioengine=libaio --iodepth=8 --rw=read --bs=128k --size=64m",
        READ_RATE,
    ),
    latency(
        "share, random read 4 KiB, latency",
        "fio $share --ioengine=psync --rw=randread --bs=4k --size=64m --io_size=6m",
        READ_LATENCY,
    ),
    latency(
        "share, random write 4 KiB, latency",
        "fio $share --ioengine=psync --rw=randwrite --bs=4k --size=64m --io_size=6m",
        WRITE_LATENCY,
    ),
    // By time: when it sends a number of bytes, iperf3 looks only once in a second if it is done.
    tcp("network, TCP to the host", "iperf3 -J -c 10.9.0.1 -t 6"),
    tcp("network, TCP from the host", "iperf3 -J -c 10.9.0.1 -t 6 -R"),
    latency(
        "network, TCP round trip of 64 bytes",
        "fio $job --ioengine=net --protocol=tcp --hostname=10.9.0.1 --port=5300 --rw=write --bs=64 --size=96k --pingpong=1",
        WRITE_LATENCY,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_behind_warnings() {
        let answer = "fio: warning\n{\"jobs\": [{\"read\": {\"bw_bytes\": 2500000}}]}";
        assert!((MEASURES[0].number(answer).unwrap() - 2.5).abs() < 1e-9);
        assert!(MEASURES[1].number(answer).is_err());
        assert!(MEASURES[0].number("fio: failed").is_err());
    }

    #[test]
    fn errors_and_nothing_are_no_numbers() {
        let answer = |error: u32, rate: u32| {
            format!("{{\"jobs\": [{{\"error\": {error}, \"read\": {{\"bw_bytes\": {rate}}}}}]}}")
        };
        assert!(MEASURES[0].number(&answer(0, 1)).is_ok());
        assert!(MEASURES[0].number(&answer(5, 1)).is_err());
        assert!(MEASURES[0].number(&answer(0, 0)).is_err());
    }
}
