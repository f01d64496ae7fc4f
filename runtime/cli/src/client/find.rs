//! What a name on the command line means: a name, an id, or the beginning of one id.

use protocol::cri::{Container, Image, ImageSpec, ImageStatusRequest, PodSandbox};

use super::{Client, ClientError, NAME, answer};

impl Client {
    /// The container that `text` means.
    ///
    /// # Errors
    /// [`ClientError::NotFound`], [`ClientError::Ambiguous`], [`ClientError::Refused`].
    pub(crate) async fn container(&self, text: &str) -> Result<Container, ClientError> {
        let all = self.containers().await?;
        let name = |one: &Container| one.labels.get(NAME).cloned();
        let found = find(text, &all, |one| (one.id.clone(), name(one)))?;
        found.cloned().ok_or_else(|| missing("container", text, "ps -a"))
    }

    /// The pod that `text` means.
    ///
    /// # Errors
    /// [`ClientError::NotFound`], [`ClientError::Ambiguous`], [`ClientError::Refused`].
    pub(crate) async fn pod(&self, text: &str) -> Result<PodSandbox, ClientError> {
        let all = self.pods().await?;
        let name = |one: &PodSandbox| one.metadata.clone().map(|metadata| metadata.name);
        let found = find(text, &all, |one| (one.id.clone(), name(one)))?;
        found.cloned().ok_or_else(|| missing("pod", text, "pods"))
    }

    /// The image that `text` means, if it is here.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub(crate) async fn image(&self, text: &str) -> Result<Option<Image>, ClientError> {
        let image = Some(ImageSpec { image: text.to_owned(), ..ImageSpec::default() });
        let request = ImageStatusRequest { image, verbose: false };
        Ok(answer(self.image_service().image_status(request).await)?.image)
    }
}

fn missing(what: &str, text: &str, verb: &str) -> ClientError {
    ClientError::NotFound(format!("no {what} {text:?}; `cuddy {verb}` lists those there are"))
}

/// Finds what a text means among `all`, of which `names` gives the id and the name (pure).
///
/// # Errors
/// [`ClientError::Ambiguous`].
fn find<'a, T>(
    text: &str,
    all: &'a [T],
    names: impl Fn(&T) -> (String, Option<String>),
) -> Result<Option<&'a T>, ClientError> {
    let exact = all.iter().find(|one| {
        let (id, name) = names(one);
        id == text || name.as_deref() == Some(text)
    });
    if exact.is_some() || text.is_empty() {
        return Ok(exact);
    }
    let begun: Vec<_> = all.iter().filter(|one| names(one).0.starts_with(text)).collect();
    match begun.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => {
            let short = |one: &&T| names(one).0.chars().take(12).collect();
            let ids = several.iter().map(short).collect();
            Err(ClientError::Ambiguous { text: text.to_owned(), ids })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_goes_before_the_beginning_of_an_id() {
        let all = [("abc1", Some("web")), ("abc2", Some("abc1x")), ("d3", None), ("e4", Some("d"))];
        let found = |text: &str| {
            let names = |one: &(&str, Option<&str>)| (one.0.to_owned(), one.1.map(str::to_owned));
            find(text, &all, names).map(|one| one.map(|one| one.0))
        };
        assert_eq!(found("web").unwrap(), Some("abc1"));
        assert_eq!(found("abc1").unwrap(), Some("abc1"));
        assert_eq!(found("abc1x").unwrap(), Some("abc2"));
        assert_eq!(found("d").unwrap(), Some("e4"));
        assert_eq!(found("d3").unwrap(), Some("d3"));
        assert_eq!(found("x").unwrap(), None);
        assert_eq!(found("").unwrap(), None);
        let error = found("ab").unwrap_err().to_string();
        assert_eq!(error, r#""ab" begins the ids of several: abc1, abc2"#);
    }
}
