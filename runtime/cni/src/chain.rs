//! What is asked of all plugins of a network, in order (specification, section 3).
//!
//! Each of these calls can be dropped at any moment. The plugin that runs then is killed, and DEL
//! is up to the caller, who has the [`Attachment`].

use std::ffi::OsString;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::attachment::Attachment;
use crate::conf::{Conf, Told};
use crate::error::Error;
use crate::invoke::{Call, Plugins};
use crate::result::{NetworkResult, in_version};
use crate::verb::Verb;
use crate::version::Version;

impl Plugins {
    /// Attaches a pod: ADD of each plugin, each with the result of the one before. The attachment
    /// has the result then.
    ///
    /// # Errors
    /// [`Error::Attach`]. All plugins were told to undo it then, as those that failed may have done
    /// something first; if that failed, too, [`Plugins::detach`] has to be repeated.
    pub async fn attach(&self, attachment: &mut Attachment) -> Result<(), Error> {
        attachment.unmade();
        let cause = match self.add(attachment).await {
            Ok((answer, result)) => {
                attachment.made(answer, result);
                return Ok(());
            }
            Err(cause) => Box::new(cause),
        };
        let cleanup = self.detach(attachment).await.err().map(Box::new);
        Err(Error::Attach { cause, cleanup })
    }

    async fn add(
        &self,
        attachment: &Attachment,
    ) -> Result<(Map<String, Value>, NetworkResult), Error> {
        let conf = attachment.conf();
        let mut previous: Option<Map<String, Value>> = None;
        let mut result = NetworkResult::default();
        for plugin in conf.plugins() {
            let capabilities = Some(attachment.capabilities());
            let told = Told { capabilities, previous: previous.as_ref(), attachments: None };
            let input = conf.input(plugin, &told);
            let environment = environment(attachment, attachment.netns());
            let call = Call { plugin: &plugin.kind, verb: Verb::Add, input, environment };
            let answer = self.call(call).await?;
            let wrong = |problem: String| Error::answer(&plugin.kind, Verb::Add, problem);
            let answer = in_version(answer, conf.version()).map_err(wrong)?;
            result = NetworkResult::parse(&answer).map_err(wrong)?;
            previous = Some(answer);
        }
        Ok((previous.unwrap_or_default(), result))
    }

    /// Detaches a pod: DEL of each plugin, the last one first. It can be repeated, and serves what
    /// was never attached or only half. Plugins are told no namespace if that is gone.
    ///
    /// # Errors
    /// The first plugin's that failed; those before it in the list were not asked then.
    pub async fn detach(&self, attachment: &Attachment) -> Result<(), Error> {
        let netns = attachment.netns();
        let netns = if network::is_pinned(netns) { netns } else { Path::new("") };
        let conf = attachment.conf();
        for plugin in conf.plugins().iter().rev() {
            let input = conf.input(plugin, &attachment.told());
            let environment = environment(attachment, netns);
            self.call(Call { plugin: &plugin.kind, verb: Verb::Del, input, environment }).await?;
        }
        Ok(())
    }

    /// Asks each plugin whether all that it made is still there. Nobody is asked before 0.4.0, and
    /// where the configuration says `disableCheck`.
    ///
    /// # Errors
    /// The first plugin's that misses something; [`Error::Argument`] before ADD.
    pub async fn check(&self, attachment: &Attachment) -> Result<(), Error> {
        let conf = attachment.conf();
        if attachment.result().is_none() {
            let problem = "it was not attached".to_owned();
            return Err(Error::Argument { what: "what CHECK is asked for", problem });
        }
        if conf.version() < Version::CHECK || !conf.has_check() {
            return Ok(());
        }
        for plugin in conf.plugins() {
            let input = conf.input(plugin, &attachment.told());
            let environment = environment(attachment, attachment.netns());
            self.call(Call { plugin: &plugin.kind, verb: Verb::Check, input, environment }).await?;
        }
        Ok(())
    }

    /// Asks each plugin whether ADD would work. Before 1.1.0 nobody is asked, only looked for.
    ///
    /// # Errors
    /// The first plugin's that is not ready, or [`Error::Missing`].
    pub async fn status(&self, conf: &Conf) -> Result<(), Error> {
        for plugin in conf.plugins() {
            if conf.version() < Version::STATUS {
                self.find(&plugin.kind)?;
                continue;
            }
            let input = conf.input(plugin, &Told::default());
            let (verb, environment) = (Verb::Status, Vec::new());
            self.call(Call { plugin: &plugin.kind, verb, input, environment }).await?;
        }
        Ok(())
    }

    /// Tells each plugin what is still attached, so that it frees all else. Nobody is told before
    /// 1.1.0, and where the configuration says `disableGC`.
    ///
    /// # Errors
    /// Those of all plugins that failed; each was told.
    pub async fn collect<'a>(
        &self,
        conf: &Conf,
        attached: impl IntoIterator<Item = &'a Attachment>,
    ) -> Result<(), Vec<Error>> {
        if !conf.has_gc() {
            return Ok(());
        }
        let valid: Vec<_> = attached.into_iter().map(Attachment::valid).collect();
        let told = Told { attachments: Some(valid.into()), ..Told::default() };
        let mut errors = Vec::new();
        for plugin in conf.plugins() {
            let input = conf.input(plugin, &told);
            let (verb, environment) = (Verb::Gc, Vec::new());
            let call = Call { plugin: &plugin.kind, verb, input, environment };
            errors.extend(self.call(call).await.err());
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Asks a plugin which versions of the specification it knows.
    ///
    /// # Errors
    /// The plugin's, or [`Error::Answer`].
    pub async fn versions(&self, plugin: &str) -> Result<Vec<Version>, Error> {
        let input = json!({ "cniVersion": Version::NEWEST.to_string() }).to_string().into_bytes();
        let (verb, environment) = (Verb::Version, Vec::new());
        let answer = self.call(Call { plugin, verb, input, environment }).await?;
        supported(&answer).map_err(|problem| Error::answer(plugin, verb, problem))
    }
}

/// The versions in an answer to VERSION. Those that are newer than this crate are left out.
pub(crate) fn supported(answer: &Map<String, Value>) -> Result<Vec<Version>, &'static str> {
    let list = answer.get("supportedVersions").and_then(Value::as_array);
    let list = list.ok_or("there is no list supportedVersions")?;
    let texts = list.iter().filter_map(Value::as_str);
    Ok(texts.filter_map(|text| text.parse().ok()).filter(|one: &Version| one.is_known()).collect())
}

/// The variables of section 2 for an attachment.
fn environment(attachment: &Attachment, netns: &Path) -> Vec<(&'static str, OsString)> {
    vec![
        ("CNI_CONTAINERID", attachment.id().into()),
        ("CNI_NETNS", netns.into()),
        ("CNI_IFNAME", attachment.interface().into()),
        ("CNI_ARGS", attachment.args().into()),
    ]
}
