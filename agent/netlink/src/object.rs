//! Addresses, routes, neighbours and rules in the form in which the kernel writes them.

mod address;
mod neighbour;
mod route;
mod rule;

use std::io;

use rustix::io::Errno;

use crate::{Attributes, Socket};

/// Index of the loopback interface, the first of every network namespace.
pub const LOOPBACK: u32 = 1;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `RTPROT_KERNEL`: made by the kernel as a consequence of something else.
const BY_KERNEL: u8 = 2;

const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An address of an interface, `struct ifaddrmsg`.
    Address,
    /// A permanent or proxied neighbour, `struct ndmsg`.
    Neighbour,
    /// A route, `struct rtmsg`.
    Route,
    /// A routing rule, `struct fib_rule_hdr`.
    Rule,
}

impl Kind {
    /// All kinds, each after those that it may need.
    pub const ALL: [Self; 4] = [Self::Address, Self::Neighbour, Self::Route, Self::Rule];

    /// `RTM_NEW…`; the message to remove follows, the one to list follows that.
    fn message(self) -> u16 {
        match self {
            Self::Address => 20,
            Self::Route => 24,
            Self::Neighbour => 28,
            Self::Rule => 32,
        }
    }

    fn header(self) -> usize {
        match self {
            Self::Address => 8,
            Self::Route | Self::Neighbour | Self::Rule => 12,
        }
    }

    /// What to ask for to have all of a kind listed.
    fn questions(self) -> Vec<Vec<u8>> {
        let family = |family| {
            let mut header = vec![0; self.header()];
            header.fill(0);
            if let Some(first) = header.first_mut() {
                *first = family;
            }
            header
        };
        let mut questions = vec![family(AF_INET), family(AF_INET6)];
        if self == Self::Neighbour {
            questions.push(neighbour::proxies(AF_INET));
            questions.push(neighbour::proxies(AF_INET6));
        }
        questions
    }
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    kind: Kind,
    header: Vec<u8>,
    attributes: Attributes,
}

impl Object {
    /// Reads an object; `None` if it is too short or a length in it is wrong.
    pub fn parse(kind: Kind, bytes: &[u8]) -> Option<Self> {
        let (header, attributes) = bytes.split_at_checked(kind.header())?;
        let attributes = Attributes::parse(attributes)?;
        Some(Self { kind, header: header.to_vec(), attributes })
    }

    /// The object as a message's body.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.header.as_slice(), &self.attributes.to_bytes()].concat()
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What can hold in another kernel: without states, counters and ages, and none of what a
    /// kernel makes by itself, for lack of which the result is `None`: the tables of its own
    /// addresses, neighbours that it has found, what routers announced, its first rules.
    #[must_use]
    pub fn canonical(self) -> Option<Self> {
        match self.kind {
            Kind::Address => address::canonical(self),
            Kind::Neighbour => neighbour::canonical(self),
            Kind::Route => route::canonical(self),
            Kind::Rule => rule::canonical(self),
        }
    }

    /// Whether it is a route whose packets leave in others (`RTA_ENCAP`): without the tunnel's
    /// other half, which is not among the objects, they would leave bare.
    pub fn is_wrapped(&self) -> bool {
        self.kind == Kind::Route && route::is_wrapped(self)
    }

    /// Interfaces that it names by number.
    pub fn interfaces(&self) -> Vec<u32> {
        match self.kind {
            Kind::Address | Kind::Neighbour => vec![self.number(4)],
            Kind::Route => route::interfaces(self),
            Kind::Rule => Vec::new(),
        }
    }

    /// The same for other numbers of interfaces; `None` if one has no counterpart.
    #[must_use]
    pub fn translated(mut self, to: &dyn Fn(u32) -> Option<u32>) -> Option<Self> {
        match self.kind {
            Kind::Address | Kind::Neighbour => {
                let index = to(self.number(4))?;
                self.put(4, &index.to_ne_bytes());
                Some(self)
            }
            Kind::Route => route::translated(self, to),
            Kind::Rule => Some(self),
        }
    }

    /// What tells it from others of its kind: two objects with one identity replace each other.
    #[must_use]
    pub fn identity(&self) -> Self {
        match self.kind {
            Kind::Address => address::identity(self),
            Kind::Neighbour => neighbour::identity(self),
            Kind::Route => route::identity(self),
            Kind::Rule => self.clone(),
        }
    }

    /// How far away what it leads to is: a route may need those of a lower distance.
    pub fn distance(&self) -> u8 {
        if self.kind == Kind::Route { route::distance(self) } else { 0 }
    }

    /// Whether it is a route that the kernel makes together with an address.
    pub fn is_consequence(&self) -> bool {
        self.kind == Kind::Route && route::is_by_kernel(self)
    }

    /// Makes it, in place of one with its identity.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn add(&self, socket: &mut Socket) -> io::Result<()> {
        let flags = match self.kind {
            // A rule has no identity beyond itself.
            Kind::Rule => NLM_F_CREATE,
            _ => NLM_F_CREATE | NLM_F_REPLACE,
        };
        let object = match self.kind {
            Kind::Address => &address::without_detection(self),
            _ => self,
        };
        socket.change(self.kind.message(), flags, &object.to_bytes())
    }

    /// Removes it.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn remove(&self, socket: &mut Socket) -> io::Result<()> {
        socket.change(self.kind.message() + 1, 0, &self.to_bytes())
    }

    fn byte(&self, at: usize) -> u8 {
        self.header.get(at).copied().unwrap_or_default()
    }

    fn number(&self, at: usize) -> u32 {
        let bytes = self.header.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    /// Overwrites a part of the header.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.header.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }
}

/// Whether a kernel refuses because it has no such family or no such objects: one without IPv6
/// answers for all families or refuses, one without policy routing has no rules.
fn is_unknown(error: &io::Error) -> bool {
    let unknown = [Errno::OPNOTSUPP, Errno::AFNOSUPPORT];
    Errno::from_io_error(error).is_some_and(|errno| unknown.contains(&errno))
}

/// All objects of the socket's network namespace, in their canonical form, in the order of
/// [`Kind::ALL`] and then in the kernel's: an interface's first address is its primary one.
///
/// # Errors
/// What the kernel answered.
pub fn objects(socket: &mut Socket) -> io::Result<Vec<Object>> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        for question in kind.questions() {
            let found = match socket.dump(kind.message() + 2, &question) {
                Err(error) if is_unknown(&error) => continue,
                found => found?,
            };
            let family = question.first().copied();
            let own = found.iter().filter(|body| body.first().copied() == family);
            all.extend(own.filter_map(|body| Object::parse(kind, body)?.canonical()));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
