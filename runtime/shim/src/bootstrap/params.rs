//! Standard input of `start`. Since containerd 2.3 it is `BootstrapParams`; before, an `Any`,
//! which happens to parse as one as well: only its id and namespace tell them apart.

use containerd_shim_protos::bootstrap_api::{BootstrapParams, LogLevel};
use protobuf::Message;

use super::Answer;
use super::flags::Flags;

/// Directory of shims' sockets, unless containerd names another.
const SOCKET_DIR: &str = "/run/containerd/s";

/// What `start` needs to know besides its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Params {
    /// How to answer.
    pub(crate) answer: Answer,
    /// Where events go; empty: nowhere.
    pub(crate) ttrpc_address: String,
    /// Directory for the shim's socket.
    pub(crate) socket_dir: String,
    /// Whether to log more.
    pub(crate) debug: bool,
}

impl Params {
    /// Reads standard input's bytes, with what the environment says for older versions.
    pub(crate) fn read(input: &[u8], flags: &Flags, environment: Option<String>) -> Self {
        let message = BootstrapParams::parse_from_bytes(input).ok();
        let ours = |params: &BootstrapParams| {
            params.instance_id == flags.id && params.namespace == flags.namespace
        };
        let Some(params) = message.filter(ours) else {
            return Self {
                answer: Answer::Bare,
                ttrpc_address: environment.unwrap_or_default(),
                socket_dir: SOCKET_DIR.to_owned(),
                debug: flags.debug,
            };
        };
        let verbose = params.log_level.enum_value().map_or_else(
            |unknown| unknown < 0,
            |level| matches!(level, LogLevel::LOG_LEVEL_DEBUG | LogLevel::LOG_LEVEL_TRACE),
        );
        let named = params.containerd_ttrpc_address;
        Self {
            answer: Answer::Message,
            ttrpc_address: if named.is_empty() { environment.unwrap_or_default() } else { named },
            socket_dir: params
                .socket_dir
                .filter(|dir| !dir.is_empty())
                .unwrap_or_else(|| SOCKET_DIR.to_owned()),
            debug: flags.debug || verbose,
        }
    }
}

#[cfg(test)]
mod tests {
    use protobuf::EnumOrUnknown;
    use protobuf::well_known_types::any::Any;

    use super::*;

    fn flags() -> Flags {
        let words = ["-namespace", "k8s.io", "-id", "abc", "start"].map(str::to_owned);
        Flags::parse(words).unwrap()
    }

    fn read(input: &[u8]) -> Params {
        Params::read(input, &flags(), Some("/run/containerd/containerd.sock.ttrpc".into()))
    }

    #[test]
    fn containerd_before_2_3_and_cri_o_get_the_bare_address() {
        let any = Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: b"\x08\x01".to_vec(),
            ..Any::default()
        };
        for input in [Vec::new(), any.write_to_bytes().unwrap(), b"\xff\xff".to_vec()] {
            let params = read(&input);
            assert_eq!(params.answer, Answer::Bare);
            assert_eq!(params.ttrpc_address, "/run/containerd/containerd.sock.ttrpc");
            assert_eq!(params.socket_dir, "/run/containerd/s");
        }
        assert_eq!(Params::read(b"", &flags(), None).ttrpc_address, "");
    }

    #[test]
    fn options_whose_type_looks_like_an_id_are_still_options() {
        let any = Any { type_url: "abc".into(), value: b"default".to_vec(), ..Any::default() };
        assert_eq!(read(&any.write_to_bytes().unwrap()).answer, Answer::Bare);
    }

    #[test]
    fn containerd_2_3_gets_a_message_and_its_wishes() {
        let params = BootstrapParams {
            instance_id: "abc".into(),
            namespace: "k8s.io".into(),
            log_level: EnumOrUnknown::new(LogLevel::LOG_LEVEL_DEBUG),
            containerd_ttrpc_address: "unix:///run/c.sock.ttrpc".into(),
            socket_dir: Some("/run/shims".into()),
            ..BootstrapParams::default()
        };
        let expected = Params {
            answer: Answer::Message,
            ttrpc_address: "unix:///run/c.sock.ttrpc".into(),
            socket_dir: "/run/shims".into(),
            debug: true,
        };
        assert_eq!(read(&params.write_to_bytes().unwrap()), expected);
    }
}
