//! A rule's expressions, as nft(8) would make them for the inet family. This module is pure.

use std::net::IpAddr;

use cni::Protocol;
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, Meta, MetaKey, Operator, Payload,
    Register, Verdict, VerdictAttribute,
};

const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

const NF_DROP: u32 = 0;

/// Length of an interface's name in a register, with zeros (`IFNAMSIZ`).
const NAME: usize = 16;

const NFT_CT_STATUS: u32 = 2;
const IPS_DST_NAT: u32 = 1 << 5;

const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_DADDR: u32 = 2;
const RTN_LOCAL: u32 = 2;

const NFT_NAT_DNAT: u32 = 1;

/// A rule while it is made: conditions first, then what to do.
pub(super) struct Rule {
    expressions: Vec<Expressions>,
    family: u8,
}

fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

impl Rule {
    pub(super) fn new() -> Self {
        Self { expressions: Vec::new(), family: NFPROTO_IPV4 }
    }

    pub(super) fn into_expressions(self) -> Vec<Expressions> {
        self.expressions
    }

    fn with(mut self, expression: Expressions) -> Self {
        self.expressions.push(expression);
        self
    }

    /// An expression that the library has no type for.
    fn other(self, name: &str, attributes: Vec<DefaultNla>) -> Self {
        self.with(Expressions::Other { expression_type: name.to_owned(), attributes })
    }

    fn meta(self, key: MetaKey) -> Self {
        self.with(Expressions::Meta(vec![
            Meta::DestinationRegister(Register::Reg1),
            Meta::Key(key),
        ]))
    }

    fn is(self, operator: Operator, value: &[u8]) -> Self {
        self.with(Expressions::Cmp(vec![
            Cmp::SourceRegister(Register::Reg1),
            Cmp::Op(operator),
            Cmp::Data(DataAttribute::Value(value.to_vec())),
        ]))
    }

    fn equals(self, value: &[u8]) -> Self {
        self.is(Operator::Equal, value)
    }

    fn payload(self, base: u32, offset: u32, length: usize) -> Self {
        let length = u32::try_from(length).unwrap_or_default();
        self.with(Expressions::Payload(vec![
            Payload::DestinationRegister(Register::Reg1),
            Payload::Base(base),
            Payload::Offset(offset),
            Payload::Len(length),
        ]))
    }

    pub(super) fn v4(mut self) -> Self {
        self.family = NFPROTO_IPV4;
        self.meta(MetaKey::Nfproto).equals(&[NFPROTO_IPV4])
    }

    pub(super) fn v6(mut self) -> Self {
        self.family = NFPROTO_IPV6;
        self.meta(MetaKey::Nfproto).equals(&[NFPROTO_IPV6])
    }

    fn interface(self, key: MetaKey, operator: Operator, name: &str) -> Self {
        let mut value = name.as_bytes().to_vec();
        value.resize(NAME, 0);
        self.meta(key).is(operator, &value)
    }

    pub(super) fn arrives_by(self, name: &str) -> Self {
        self.interface(MetaKey::Iifname, Operator::Equal, name)
    }

    /// It leaves by another interface.
    pub(super) fn not_to(self, name: &str) -> Self {
        self.interface(MetaKey::Oifname, Operator::NotEqual, name)
    }

    pub(super) fn to(self, name: &str) -> Self {
        self.interface(MetaKey::Oifname, Operator::Equal, name)
    }

    /// It leaves by this interface because a published port led it there.
    pub(super) fn by_port(self, name: &str) -> Self {
        let bits = |value: u32| DataAttribute::Value(value.to_ne_bytes().to_vec());
        self.to(name)
            .other("ct", vec![number(1, Register::Reg1.into()), number(2, NFT_CT_STATUS)])
            .with(Expressions::Bitwise(vec![
                Bitwise::SourceRegister(Register::Reg1),
                Bitwise::DestinationRegister(Register::Reg1),
                Bitwise::Length(4),
                Bitwise::Mask(bits(IPS_DST_NAT)),
                Bitwise::Xor(bits(0)),
            ]))
            .is(Operator::NotEqual, &[0; 4])
    }

    /// Its source begins so.
    pub(super) fn source(self, first: &[u8]) -> Self {
        let offset = if self.family == NFPROTO_IPV4 { 12 } else { 8 };
        self.payload(NETWORK, offset, first.len()).equals(first)
    }

    /// Its destination begins so.
    pub(super) fn destination(self, first: &[u8]) -> Self {
        let offset = if self.family == NFPROTO_IPV4 { 16 } else { 24 };
        self.payload(NETWORK, offset, first.len()).equals(first)
    }

    /// Its destination is an address of the node.
    pub(super) fn at_the_node(self) -> Self {
        let attributes = vec![
            number(1, Register::Reg1.into()),
            number(2, NFT_FIB_RESULT_ADDRTYPE),
            number(3, NFTA_FIB_F_DADDR),
        ];
        self.other("fib", attributes).equals(&RTN_LOCAL.to_ne_bytes())
    }

    pub(super) fn at_port(self, protocol: Protocol, port: u16) -> Self {
        let protocol = match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        };
        self.meta(MetaKey::L4Proto)
            .equals(&[protocol])
            .payload(TRANSPORT, 2, 2)
            .equals(&port.to_be_bytes())
    }

    fn load(self, register: Register, value: &[u8]) -> Self {
        self.with(Expressions::Immediate(vec![
            Immediate::DestinationRegister(register),
            Immediate::Data(DataAttribute::Value(value.to_vec())),
        ]))
    }

    /// It goes to this address and port instead.
    pub(super) fn lead(self, address: IpAddr, port: u16) -> Self {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let family = self.family.into();
        self.load(Register::Reg1, &bytes).load(Register::Reg2, &port.to_be_bytes()).other(
            "nat",
            vec![
                number(1, NFT_NAT_DNAT),
                number(2, family),
                number(3, Register::Reg1.into()),
                number(5, Register::Reg2.into()),
            ],
        )
    }

    /// It gets the address of the interface that it leaves by.
    pub(super) fn masquerade(self) -> Self {
        self.other("masq", Vec::new())
    }

    pub(super) fn drop(self) -> Self {
        let verdict = vec![VerdictAttribute::Code(Verdict::Other(NF_DROP))];
        self.with(Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Verdict),
            Immediate::Data(DataAttribute::Verdict(verdict)),
        ]))
    }
}
