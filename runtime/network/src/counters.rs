//! The traffic of a namespace's interfaces (proc_pid_net(5), `dev`).

use crate::Error;
use crate::netns::Netns;

/// The table of the namespace of the thread that reads it.
const TABLE: &str = "/proc/thread-self/net/dev";

/// What went through an interface since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// The interface.
    pub name: String,
    /// Bytes that came.
    pub received_bytes: u64,
    /// Packets that came.
    pub received_packets: u64,
    /// Packets that came broken.
    pub received_errors: u64,
    /// Packets that came and were thrown away.
    pub received_dropped: u64,
    /// Bytes that went.
    pub sent_bytes: u64,
    /// Packets that went.
    pub sent_packets: u64,
    /// Packets that could not go.
    pub sent_errors: u64,
    /// Packets that were thrown away before they went.
    pub sent_dropped: u64,
}

impl Netns {
    /// Reads the traffic of all interfaces of the namespace.
    ///
    /// # Errors
    /// [`Error::Io`] if the namespace can't be entered.
    pub fn counters(&self) -> Result<Vec<Counters>, Error> {
        let read = || std::fs::read_to_string(TABLE);
        let table = self.enter("reading the interfaces' counters", read)?;
        Ok(table.lines().filter_map(counters).collect())
    }
}

/// Reads a line of the table; none for its head (pure).
fn counters(line: &str) -> Option<Counters> {
    let (name, numbers) = line.split_once(':')?;
    let numbers: Vec<u64> =
        numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let number = |index: usize| numbers.get(index).copied();
    Some(Counters {
        name: name.trim().to_owned(),
        received_bytes: number(0)?,
        received_packets: number(1)?,
        received_errors: number(2)?,
        received_dropped: number(3)?,
        sent_bytes: number(8)?,
        sent_packets: number(9)?,
        sent_errors: number(10)?,
        sent_dropped: number(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_of_the_table_is_no_interface() {
        let table = "Inter-|   Receive  |  Transmit\n face |bytes    packets errs\n\
                     \x20 eth0: 10 1 2 5 0 0 0 0 20 3 4 6 0 0 0 0\n";
        let read: Vec<_> = table.lines().filter_map(counters).collect();
        let eth0 = Counters {
            name: "eth0".into(),
            received_bytes: 10,
            received_packets: 1,
            received_errors: 2,
            received_dropped: 5,
            sent_bytes: 20,
            sent_packets: 3,
            sent_errors: 4,
            sent_dropped: 6,
        };
        assert_eq!(read, [eth0]);
    }
}
