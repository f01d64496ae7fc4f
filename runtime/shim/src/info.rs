//! `-info`: what the runtime is, for containerd 2.0 and later.

use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use protobuf::{Message, MessageField};

/// Version of this build.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Name under which containerd's configuration knows the runtime.
const NAME: &str = "io.containerd.cuddy.v2";

/// Returns the answer for standard output. Features that are not announced count as absent.
pub(crate) fn run() -> anyhow::Result<Vec<u8>> {
    let version = RuntimeVersion { version: VERSION.to_owned(), ..RuntimeVersion::default() };
    let info = RuntimeInfo {
        name: NAME.to_owned(),
        version: MessageField::some(version),
        ..RuntimeInfo::default()
    };
    Ok(info.write_to_bytes()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_names_the_runtime() {
        let info = RuntimeInfo::parse_from_bytes(&run().unwrap()).unwrap();
        assert_eq!((info.name.as_str(), info.version.version.as_str()), (NAME, VERSION));
    }
}
