//! The options of `cuddy run`, and what they ask for.

use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use protocol::cri::LinuxContainerSecurityContext;

use crate::options::{environment, port, restart, user, volume};
use crate::plan::{Plan, name, wrong_name};
use crate::{human, terminal};

/// Directory of the containers' logs.
const LOGS: &str = "/var/log/cuddy/containers";

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Pull {
    /// Each time.
    Always,
    /// If it is not here.
    Missing,
    /// Not at all.
    Never,
}

/// Run a container in a machine of its own.
///
/// Exit status: the command's own; 125 the daemon failed, 126 the command can't be executed, 127
/// it is not there, 128 and its number for a signal. Ctrl-C stops the container, and kills it the
/// second time. Ctrl-P Ctrl-Q leaves one with a terminal alone.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// It reads standard input.
    #[arg(short, long, conflicts_with = "detach")]
    interactive: bool,
    /// It has a terminal.
    #[arg(short, long)]
    tty: bool,
    /// Leave it alone once it runs, and print its id.
    #[arg(short, long)]
    pub(super) detach: bool,
    /// Remove it when it has ended.
    #[arg(long = "rm", conflicts_with = "detach")]
    pub(super) remove: bool,
    /// Its name [default: one by the image].
    #[arg(long)]
    name: Option<String>,
    /// A path of the host in it: HOST:CONTAINER[:ro].
    #[arg(short, long = "volume", value_name = "VOLUME")]
    volumes: Vec<String>,
    /// A port of the host that leads to it: [ADDRESS:]HOST:CONTAINER[/udp].
    #[arg(short, long = "publish", value_name = "PORT")]
    ports: Vec<String>,
    /// A variable: NAME=VALUE, or NAME for the value that it has here.
    #[arg(short, long = "env", value_name = "VARIABLE")]
    envs: Vec<String>,
    /// A file of variables, one a line.
    #[arg(long = "env-file", value_name = "FILE")]
    env_files: Vec<PathBuf>,
    /// What is executed in place of the image's entrypoint; empty: the command alone.
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// As whom it runs: USER[:GROUP].
    #[arg(short, long)]
    user: Option<String>,
    /// The directory it starts in.
    #[arg(
        short = 'w',
        long = "workdir",
        value_name = "DIRECTORY",
        default_value = "",
        hide_default_value = true
    )]
    directory: String,
    /// Most memory that it has, such as 512m.
    #[arg(short, long, value_name = "SIZE", value_parser = human::bytes)]
    memory: Option<i64>,
    /// Most CPUs that it has, such as 0.5.
    #[arg(long, value_name = "NUMBER", value_parser = human::cpus)]
    cpus: Option<i64>,
    /// Its host's name [default: its name].
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    hostname: String,
    /// When it is started again: no, on-failure[:N], always, unless-stopped.
    #[arg(long, value_name = "POLICY", value_parser = restart::policy, conflicts_with = "remove")]
    restart: Option<String>,
    /// Join the pod of this container: its machine, its network, its ports.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["ports", "hostname"])]
    pub(super) pod: Option<String>,
    /// A label: NAME=VALUE.
    #[arg(short, long = "label", value_name = "LABEL")]
    labels: Vec<String>,
    /// It can't write to its root file system.
    #[arg(long)]
    read_only: bool,
    /// When the image is pulled.
    #[arg(long, value_enum, default_value = "missing")]
    pub(super) pull: Pull,
    /// Show no progress.
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// The image.
    image: String,
    /// The command and its arguments, in place of the image's.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl RunArgs {
    /// What they ask for.
    ///
    /// # Errors
    /// What can't be.
    pub(super) fn plan(&self) -> anyhow::Result<Plan> {
        if self.interactive && self.tty && !terminal::is_input() {
            bail!("standard input is no terminal: leave out -t");
        }
        let mut random = [0; 6];
        getrandom::fill(&mut random).map_err(|error| anyhow!("making a name: {error}"))?;
        let nonce: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let here = std::env::current_dir().context("finding the working directory")?;
        self.plan_with(&nonce, &here)
    }

    fn plan_with(&self, nonce: &str, here: &std::path::Path) -> anyhow::Result<Plan> {
        let restart = self.restart.clone().filter(|policy| policy != restart::NO);
        if restart.is_some() && !self.detach {
            bail!("--restart is for containers that are left alone: use -d");
        }
        if !self.directory.is_empty() && !self.directory.starts_with('/') {
            let from_root = format!("/{}", self.directory);
            bail!("working directory {:?}: it begins at the root: {from_root}", self.directory);
        }
        let name = match &self.name {
            None => name(&self.image, &nonce[..nonce.len().min(4)]),
            Some(name) => name.clone(),
        };
        if let Some(problem) = wrong_name(&name) {
            bail!(problem);
        }
        let mut asked = Vec::new();
        for path in &self.env_files {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("variables of {}", path.display()))?;
            asked.extend(environment::file(path, &text).map_err(anyhow::Error::msg)?);
        }
        asked.extend(each(&self.envs, environment::variable)?);
        let mut security = LinuxContainerSecurityContext {
            readonly_rootfs: self.read_only,
            ..LinuxContainerSecurityContext::default()
        };
        if let Some(text) = &self.user {
            user::user(text, &mut security).map_err(anyhow::Error::msg)?;
        }
        Ok(Plan {
            logs: format!("{LOGS}/{name}-{nonce}"),
            name,
            nonce: nonce.to_owned(),
            hostname: self.hostname.clone(),
            image: self.image.clone(),
            entrypoint: self.entrypoint.clone(),
            args: self.command.clone(),
            directory: self.directory.clone(),
            envs: environment::all(asked, |name| std::env::var(name).ok()),
            mounts: each(&self.volumes, |text| volume::volume(text, here))?,
            ports: each(&self.ports, port::port)?,
            labels: each(&self.labels, label)?,
            security,
            memory: self.memory.unwrap_or_default(),
            cpus: self.cpus.unwrap_or_default(),
            restart,
            joins: self.pod.is_some(),
            stdin: self.interactive,
            tty: self.tty,
            size: terminal::size(),
        })
    }
}

fn each<T>(texts: &[String], read: impl Fn(&str) -> Result<T, String>) -> anyhow::Result<Vec<T>> {
    texts.iter().map(|text| read(text).map_err(anyhow::Error::msg)).collect()
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    match name.is_empty() || name.starts_with("cuddy.") {
        true => Err(format!("{text:?} is no label such as NAME=VALUE; our own begin with cuddy.")),
        false => Ok((name.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }

    fn plan(line: &str) -> Result<Plan, String> {
        let words = std::iter::once("run").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.args.plan_with("ab12cd", Path::new("/here")).map_err(|error| error.to_string())
    }

    #[test]
    fn options_end_at_the_image() {
        let plan =
            plan("--memory 1g --cpus=0.5 -e A=1 -v .:/d -p 80:81 -u 5 busybox ls -l --rm").unwrap();
        assert_eq!(plan.args, ["ls", "-l", "--rm"]);
        assert_eq!((&*plan.name, plan.memory, plan.cpus), ("busybox-ab12", 1 << 30, 50_000));
        assert_eq!(plan.logs, "/var/log/cuddy/containers/busybox-ab12-ab12cd");
        assert_eq!(
            (plan.envs.len(), &*plan.mounts[0].host_path, plan.ports.len()),
            (1, "/here", 1)
        );
        assert_eq!(plan.security.run_as_user.unwrap().value, 5);
    }

    #[test]
    fn container_joins_another_and_is_started_again() {
        let asked = plan("-d --pod web --restart on-failure:3 busybox").unwrap();
        assert!(asked.joins);
        assert_eq!(asked.restart.as_deref(), Some("on-failure:3"));
        assert_eq!(plan("--restart no busybox").unwrap().restart, None);
    }

    #[test]
    fn two_dashes_end_options() {
        let plan = plan("--name web -- busybox -x").unwrap();
        assert_eq!((&*plan.image, &*plan.args), ("busybox", &["-x".to_owned()][..]));
    }

    #[test]
    fn what_can_not_be_is_refused() {
        for line in [
            "",
            "-d --rm x",
            "--restart always x",
            "-d --restart never x",
            "--pod a -p 80:80 x",
            "--pod a --hostname b x",
            "--memory 0 x",
            "--cpus x y",
            "--name a/b x",
            "-l cuddy.name=x y",
            "-v a:/b x",
            "-p 80 x",
            "-e =x y",
            "-u : x",
            "-w tmp x",
            "--env-file /no/such x",
            "--bogus x",
        ] {
            assert!(plan(line).is_err(), "{line}");
        }
    }
}
