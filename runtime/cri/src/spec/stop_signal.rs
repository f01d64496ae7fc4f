//! The signal that ends a container: the container's own, else the image's, else SIGTERM.

use oci_spec::image::Config;
use protocol::cri::{ContainerConfig, Signal};

use super::SpecError;
use super::error::shown;

/// The first and the last of the real-time signals, as the C library counts them.
const REAL_TIME: (i32, i32) = (34, 64);

/// Linux's numbers on x86_64. Where there are two names, the usual one is first.
const NAMES: [(&str, i32); 35] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", REAL_TIME.0),
];

/// A signal that can end a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopSignal(i32);

impl StopSignal {
    /// What most containers end by.
    pub const TERM: Self = Self(15);

    /// Linux's number, 1 to 64.
    pub fn number(self) -> i32 {
        self.0
    }

    /// The interface's word for it: `ContainerStatus.stop_signal`. The two that the C library
    /// keeps to itself have none.
    pub fn to_cri(self) -> Signal {
        let number = self.0;
        let name = NAMES.iter().find(|(_, known)| *known == number).map(|(name, _)| *name);
        let (first, last) = REAL_TIME;
        let name = match name {
            Some(name) => name.to_owned(),
            None if number == last => "RTMAX".to_owned(),
            None if number > first + 15 => format!("RTMAXMINUS{}", last - number),
            None => format!("RTMINPLUS{}", number - first),
        };
        Signal::from_str_name(&format!("SIGNAL_SIG{name}")).unwrap_or(Signal::RuntimeDefault)
    }
}

/// How a container is ended, and a line where the image's own word for it means nothing.
///
/// # Errors
/// The interface asks for a signal that nobody knows.
pub fn stop_signal(
    container: &ContainerConfig,
    image: &Config,
) -> Result<(StopSignal, Option<String>), SpecError> {
    let number = container.stop_signal;
    let asked = Signal::try_from(number).map_err(|_| SpecError::Process {
        what: "stop signal",
        reason: "its number is none of the interface's",
    })?;
    if asked != Signal::RuntimeDefault {
        let name = asked.as_str_name().trim_start_matches("SIGNAL_");
        let known = parse(&name.replace("PLUS", "+").replace("MINUS", "-"));
        return Ok((known.unwrap_or(StopSignal::TERM), None));
    }
    let word = image.stop_signal().as_deref().unwrap_or_default();
    if word.is_empty() {
        return Ok((StopSignal::TERM, None));
    }
    Ok(match parse(word) {
        Some(signal) => (signal, None),
        None => {
            let note = format!("stop signal \"{}\" of the image is unknown: SIGTERM", shown(word));
            (StopSignal::TERM, Some(note))
        }
    })
}

/// Reads a number, or a name with or without `SIG`.
fn parse(word: &str) -> Option<StopSignal> {
    let (first, last) = REAL_TIME;
    if let Ok(number) = word.parse::<i32>() {
        return (1..=last).contains(&number).then_some(StopSignal(number));
    }
    let upper = word.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset =
        |digits: &str| digits.parse::<i32>().ok().filter(|offset| (0..=30).contains(offset));
    let number = if name == "RTMAX" {
        Some(last)
    } else if let Some(digits) = name.strip_prefix("RTMIN+") {
        offset(digits).map(|offset| first + offset)
    } else if let Some(digits) = name.strip_prefix("RTMAX-") {
        offset(digits).map(|offset| last - offset)
    } else {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
    };
    number.map(StopSignal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_image(word: &str) -> (i32, bool) {
        let mut image = Config::default();
        image.set_stop_signal(Some(word.to_owned()));
        let (signal, note) = stop_signal(&ContainerConfig::default(), &image).unwrap();
        (signal.number(), note.is_some())
    }

    #[test]
    fn words_of_images_are_read() {
        for (word, number) in [
            ("SIGQUIT", 3),
            ("quit", 3),
            ("9", 9),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("SIGRTMAX", 64),
            ("SIGIOT", 6),
            ("", 15),
        ] {
            assert_eq!(of_image(word), (number, false), "{word}");
        }
        for word in ["SIGNOT", "0", "65", "-9", "SIGRTMIN+31", "SIGRTMIN+-1", "SIG"] {
            assert_eq!(of_image(word), (15, true), "{word}");
        }
    }

    #[test]
    fn every_signal_of_the_interface_is_known_and_comes_back() {
        let mut image = Config::default();
        image.set_stop_signal(Some("SIGKILL".to_owned()));
        let with = |stop_signal_: i32| {
            let container = ContainerConfig { stop_signal: stop_signal_, ..Default::default() };
            stop_signal(&container, &image).map(|(signal, _)| signal)
        };
        assert_eq!(with(0).unwrap().number(), 9);
        let mut numbers = std::collections::BTreeSet::new();
        for number in 1..=65 {
            let (asked, signal) = (Signal::try_from(number).unwrap(), with(number).unwrap());
            let other = [Signal::Sigcld, Signal::Sigiot, Signal::Sigpoll];
            assert!(signal.to_cri() == asked || other.contains(&asked), "{asked:?} {signal:?}");
            numbers.insert(signal.number());
        }
        // All but the two that the C library keeps.
        assert_eq!(numbers.len(), 62);
        assert!(with(66).is_err());
        assert_eq!(StopSignal(32).to_cri(), Signal::RuntimeDefault);
    }
}
