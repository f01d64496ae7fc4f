//! What is run: arguments, environment and directory.

use oci_spec::image::Config;
use oci_spec::runtime::{Box as Size, BoxBuilder};
use protocol::cri::{ContainerConfig, KeyValue};

use super::SpecError;
use super::error::shown;

/// The annotation of a container's request that says how large its terminal is from the first moment
/// on: columns and rows, as `80x24`. The interface has no field for it.
const TERMINAL_SIZE: &str = "dev.cuddy.terminal-size";

/// Where programs are looked for if nobody says.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A list of the image's configuration.
pub(super) fn list(of_image: &Option<Vec<String>>) -> &[String] {
    of_image.as_deref().unwrap_or_default()
}

/// The arguments. A command replaces the image's entrypoint and its arguments; arguments alone
/// replace the image's only.
///
/// # Errors
/// [`SpecError::NoCommand`], or an argument has a NUL.
pub(super) fn args(container: &ContainerConfig, image: &Config) -> Result<Vec<String>, SpecError> {
    let (mut command, mut args) = (container.command.as_slice(), container.args.as_slice());
    if command.is_empty() {
        if args.is_empty() {
            args = list(image.cmd());
        }
        // What Docker writes for an entrypoint that was reset.
        let entrypoint = list(image.entrypoint());
        command = if entrypoint == [""] { &[] } else { entrypoint };
    }
    let all: Vec<_> = command.iter().chain(args).cloned().collect();
    if all.is_empty() {
        return Err(SpecError::NoCommand);
    }
    no_nul("argument", all.iter().map(String::as_str))?;
    Ok(all)
}

/// The first size of a terminal; none where nobody says one, or it makes no sense.
pub(super) fn terminal_size(container: &ContainerConfig) -> Option<Size> {
    let text = container.annotations.get(TERMINAL_SIZE).filter(|_| container.tty)?;
    let (columns, rows) = text.split_once('x')?;
    let number = |text: &str| text.parse::<u16>().ok().map(u64::from);
    BoxBuilder::default().width(number(columns)?).height(number(rows)?).build().ok()
}

/// The directory that the process starts in.
///
/// # Errors
/// It has a NUL.
pub(super) fn directory(container: &str, image: &Config) -> Result<String, SpecError> {
    let of_image = image.working_dir().as_deref().unwrap_or_default();
    let directory = [container, of_image, "/"].into_iter().find(|path| !path.is_empty());
    let directory = directory.unwrap_or("/");
    no_nul("working directory", [directory])?;
    // Images have relative ones; they start at the root.
    let root = if directory.starts_with('/') { "" } else { "/" };
    Ok(format!("{root}{directory}"))
}

/// The environment: the defaults, then the image's variables, then the container's.
///
/// # Errors
/// A name is empty or has `=` or a NUL. A value has a NUL or is not UTF-8.
pub(super) fn env(
    hostname: &str,
    tty: bool,
    image: &[String],
    container: &[KeyValue],
) -> Result<Vec<String>, SpecError> {
    let mut env = Environment(vec![PATH.to_owned()]);
    if tty {
        env.0.push("TERM=xterm".to_owned());
    }
    env.set("HOSTNAME", hostname);
    for entry in image {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        if entry.contains('\0') {
            return Err(bad(name, "of the image has a NUL"));
        }
        // One without a value takes it away.
        match entry.split_once('=') {
            Some((name, value)) => env.set(name, value),
            None => env.0.retain(|kept| !is_of(kept, name)),
        }
    }
    for variable in container {
        let KeyValue { key, value } = variable;
        let value = std::str::from_utf8(value).map_err(|_| bad(key, "its value is not UTF-8"))?;
        if key.is_empty() || key.contains(['=', '\0']) {
            return Err(bad(key, "the name is empty, or has \"=\" or a NUL"));
        }
        if value.contains('\0') {
            return Err(bad(key, "its value has a NUL"));
        }
        env.set(key, value);
    }
    Ok(env.0)
}

/// Entries `NAME=value`, each name once.
struct Environment(Vec<String>);

impl Environment {
    fn set(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        match self.0.iter_mut().find(|kept| is_of(kept, name)) {
            Some(kept) => *kept = entry,
            None => self.0.push(entry),
        }
    }
}

fn is_of(entry: &str, name: &str) -> bool {
    entry.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
}

fn bad(name: &str, reason: &'static str) -> SpecError {
    SpecError::Env { name: shown(name), reason }
}

fn no_nul<'a>(
    what: &'static str,
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<(), SpecError> {
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(SpecError::Process { what, reason: "it has a NUL" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn run(command: &[&str], args_: &[&str], entrypoint: &[&str], cmd: &[&str]) -> String {
        let container = ContainerConfig {
            command: strings(command),
            args: strings(args_),
            ..ContainerConfig::default()
        };
        let mut image = Config::default();
        image.set_entrypoint(Some(strings(entrypoint))).set_cmd(Some(strings(cmd)));
        args(&container, &image).map_or_else(|error| error.to_string(), |args| args.join(" "))
    }

    #[test]
    fn command_and_arguments_replace_the_images() {
        let none = "no command specified: neither the container nor its image has one";
        for (command, args, entrypoint, cmd, expected) in [
            (&[][..], &[][..], &["e"][..], &["c"][..], "e c"),
            (&[], &["a"], &["e"], &["c"], "e a"),
            (&["k"], &[], &["e"], &["c"], "k"),
            (&["k"], &["a"], &["e"], &["c"], "k a"),
            (&[], &[], &[], &["c", "d"], "c d"),
            (&[], &[], &[""], &["c"], "c"),
            (&[], &["a"], &[], &[], "a"),
            (&[], &[], &["e"], &[], "e"),
            (&[], &[], &[], &[], none),
            (&[], &[], &[""], &[], none),
            (&["a\0b"], &[], &[], &[], "argument: it has a NUL"),
        ] {
            assert_eq!(run(command, args, entrypoint, cmd), expected);
        }
    }

    #[test]
    fn directory_is_the_containers_else_the_images_else_the_root() {
        let mut image = Config::default();
        assert_eq!(directory("", &image).unwrap(), "/");
        image.set_working_dir(Some("srv".to_owned()));
        assert_eq!(directory("", &image).unwrap(), "/srv");
        assert_eq!(directory("/own", &image).unwrap(), "/own");
        assert!(directory("/a\0", &image).is_err());
    }

    #[test]
    fn size_is_that_of_a_terminal() {
        let size = |text: &str, tty: bool| {
            let annotations = [(TERMINAL_SIZE.to_owned(), text.to_owned())].into();
            let container = ContainerConfig { annotations, tty, ..ContainerConfig::default() };
            terminal_size(&container).map(|size| (size.width(), size.height()))
        };
        assert_eq!(size("132x43", true), Some((132, 43)));
        for (text, tty) in [("132x43", false), ("132", true), ("x43", true), ("1x65536", true)] {
            assert_eq!(size(text, tty), None, "{text}");
        }
    }

    fn variable(key: &str, value: &[u8]) -> KeyValue {
        KeyValue { key: key.to_owned(), value: value.to_vec() }
    }

    #[test]
    fn later_variables_replace_earlier_ones_in_their_place() {
        let image = strings(&["PATH=/bin", "A=1", "HOSTNAME=image", "A=2", "B=", "GONE=x", "GONE"]);
        let own = [variable("A", b"3=4"), variable("a.b", b""), variable("TERM", b"dumb")];
        let found = env("web-0", true, &image, &own).unwrap();
        assert_eq!(found, ["PATH=/bin", "TERM=dumb", "HOSTNAME=image", "A=3=4", "B=", "a.b="]);
        let found = env("web-0", false, &[], &[]).unwrap();
        assert_eq!(found, [PATH, "HOSTNAME=web-0"]);
    }

    #[test]
    fn variables_that_no_process_can_have_are_named() {
        for (key, value, reason) in [
            ("", &b"x"[..], "the name is empty"),
            ("A=B", b"x", "the name is empty, or has \"=\""),
            ("A\0B", b"x", "or a NUL"),
            ("A", b"x\0y", "its value has a NUL"),
            ("A", b"\xff\xfe", "its value is not UTF-8"),
        ] {
            let error = env("h", false, &[], &[variable(key, value)]).unwrap_err().to_string();
            assert!(error.starts_with("environment variable \""), "{error}");
            assert!(error.contains(reason) && !error.contains('\0'), "{error}");
        }
        assert!(env("h", false, &strings(&["A=\0"]), &[]).is_err());
    }
}
