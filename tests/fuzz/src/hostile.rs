//! What those targets share that drive a shim. That is text that somebody hostile decides on, what
//! may become of it, a check of the log, and the tasks' runtime.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

use arbitrary::Arbitrary;
use log::{LevelFilter, Log, Metadata, Record};
use tokio::runtime::Runtime;

/// Most bytes of an error or a record of the log: text of the other side, and what is said of it.
const LONGEST: usize = 4096;

/// What the other side says.
#[derive(Debug, Clone, Arbitrary)]
pub(crate) enum Text {
    Short(String),
    Long { character: char, count: u16 },
    Usual(u8),
}

impl Text {
    pub(crate) fn words(&self) -> String {
        let usual = [
            "",
            "\x1b[2J",
            "a\nb: ERROR: c",
            "\u{202e}\u{2066}",
            "max",
            "1",
            "/dev/vdb",
            "some avg10=NaN avg60=inf avg300=-1 total=7\nfull avg10=1.5 avg60=200\n",
            "8:0 rbytes=1 wbytes=x\n",
            "usage_usec 5\nnr_periods many\n",
        ];
        match self {
            Self::Short(text) => text.clone(),
            Self::Long { character, count } => character.to_string().repeat((*count).into()),
            Self::Usual(number) => usual[usize::from(*number) % usual.len()].to_owned(),
        }
    }
}

/// Fails if a text that people read is long, or does something to a terminal or a log.
pub(crate) fn check(text: &str) {
    assert!(text.len() <= LONGEST, "{} bytes of text: {:.200}…", text.len(), text);
    let acts = |character: char| {
        character.is_control()
            || ('\u{200b}'..='\u{200f}').contains(&character)
            || ('\u{2028}'..='\u{202e}').contains(&character)
            || ('\u{2066}'..='\u{2069}').contains(&character)
    };
    assert!(!text.contains(acts), "text that acts: {text:?}");
}

/// Records that an operator sees, since the last look.
static RECORDS: AtomicUsize = AtomicUsize::new(0);

struct Checked;

impl Log for Checked {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= LevelFilter::Info
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            check(&record.args().to_string());
            RECORDS.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// How many records the log got since the last call. From the first call on each is checked.
pub(crate) fn records() -> usize {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        log::set_logger(&Checked).unwrap();
        log::set_max_level(LevelFilter::Info);
    });
    RECORDS.swap(0, Ordering::Relaxed)
}

/// The runtime of all tasks. Its clock stands still until nothing else is to be done, and jumps
/// then.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    })
}
