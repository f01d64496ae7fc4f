//! A transaction of nftables: many messages that the kernel takes all or none.

use std::io;
use std::time::Duration;

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook, InetHookNumber, NfTablesMessage, RuleAttribute,
    RuleMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_send_buffer_size_force, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

use super::expressions::Rule;

/// The name of our table.
const TABLE: &str = "cuddy";

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;

const NF_ACCEPT: u32 = 1;

/// Most bytes of a transaction, which the kernel takes as one message.
const MOST: usize = 16 << 20;

/// How long the kernel may take; it works while it is told.
const PATIENCE: Duration = Duration::from_secs(30);

const NLMSG_ERROR: u16 = 2;

pub(super) struct Transaction {
    messages: Vec<NetlinkMessage<NetfilterMessage>>,
}

fn message(
    header: NetfilterHeader,
    body: impl Into<netlink_packet_netfilter::NetfilterMessageInner>,
    flags: u16,
) -> NetlinkMessage<NetfilterMessage> {
    let mut message = NetlinkMessage::from(NetfilterMessage::new(header, body));
    message.header.flags = NLM_F_REQUEST | flags;
    message
}

impl Transaction {
    pub(super) fn new() -> Self {
        let mut transaction = Self { messages: Vec::new() };
        transaction.control(ControlMessage::BatchBegin);
        transaction
    }

    fn control(&mut self, body: ControlMessage) {
        let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM);
        self.messages.push(message(header, body, 0));
    }

    fn push(&mut self, body: NfTablesMessage, flags: u16) {
        let header = NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0);
        self.messages.push(message(header, body, flags));
    }

    fn table() -> TableMessage {
        TableMessage { attributes: vec![TableAttribute::Name(TABLE.to_owned())] }
    }

    /// Removes the table, whether it is there or not.
    pub(super) fn remove(&mut self) {
        self.push(NfTablesMessage::NewTable(Self::table()), NLM_F_CREATE);
        self.push(NfTablesMessage::DeleteTable(Self::table()), 0);
    }

    /// Makes the table an empty one.
    pub(super) fn empty(&mut self) {
        self.remove();
        self.push(NfTablesMessage::NewTable(Self::table()), NLM_F_CREATE);
    }

    pub(super) fn chain(&mut self, name: &str, kind: &str, hook: InetHookNumber, priority: i32) {
        let attributes = vec![
            ChainAttribute::Table(TABLE.to_owned()),
            ChainAttribute::Name(name.to_owned()),
            ChainAttribute::Hook(vec![
                Hook::Number(hook.into()),
                Hook::Priority(priority.cast_unsigned()),
            ]),
            ChainAttribute::Policy(NF_ACCEPT),
            ChainAttribute::Type(kind.to_owned()),
        ];
        self.push(NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE);
    }

    pub(super) fn rule(&mut self, chain: &str, rule: Rule) {
        let expressions = rule.into_expressions().into_iter().map(Into::into).collect();
        let attributes = vec![
            RuleAttribute::Table(TABLE.to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Expressions(expressions),
        ];
        let flags = NLM_F_CREATE | NLM_F_APPEND;
        self.push(NfTablesMessage::NewRule(RuleMessage { attributes }), flags);
    }

    /// Has the kernel take it.
    ///
    /// # Errors
    /// What the kernel answered: nothing has changed then.
    pub(super) fn commit(mut self) -> io::Result<()> {
        // One answer is enough; failures are answered anyway.
        if let Some(last) = self.messages.last_mut() {
            last.header.flags |= NLM_F_ACK;
        }
        self.control(ControlMessage::BatchEnd);
        let mut bytes = Vec::new();
        for (message, number) in self.messages.iter_mut().zip(1..) {
            message.header.sequence_number = number;
            message.finalize();
            let start = bytes.len();
            bytes.resize(start + message.buffer_len(), 0);
            message.serialize(bytes.get_mut(start..).unwrap_or_default());
        }
        if bytes.len() > MOST {
            return Err(io::Error::other("more rules than the kernel takes at once"));
        }
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        set_socket_send_buffer_size_force(&socket, 2 * bytes.len().max(1 << 16))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        send(&socket, &bytes, SendFlags::empty())?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
            if let Some(result) = answer(buffer.get(..length).unwrap_or_default()) {
                return result;
            }
        }
    }
}

/// The kernel's answer: a header of 16 bytes, then 0 or a negative number of an error.
fn answer(bytes: &[u8]) -> Option<io::Result<()>> {
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(bytes.get(16..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then(|| match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
    })
}
