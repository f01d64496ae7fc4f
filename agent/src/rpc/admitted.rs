//! The one place where calls to a guest that is not configured are refused. Every service goes
//! through it whole, so that no method of it can be forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use ttrpc::r#async::{MethodHandler, Service, StreamHandler, StreamInner, TtrpcContext};
use ttrpc::proto::ResponseInit;
use ttrpc::{Error, Request, Response};

use super::status;
use crate::admission::Admission;

/// What a guest answers that is not configured, by service and method.
const ALWAYS: [(&str, &str); 4] = [
    ("cuddy.agent.v1.Health", "Check"),
    ("cuddy.agent.v1.Sandbox", "Warm"),
    ("cuddy.agent.v1.Sandbox", "Configure"),
    ("cuddy.agent.v1.Sandbox", "Shutdown"),
];

/// Puts every method behind the guest's admission, but those that are always answered.
pub(super) fn behind(
    admission: &Arc<Admission>,
    services: HashMap<String, Service>,
) -> HashMap<String, Service> {
    let one = |(name, service): (String, Service)| {
        let Service { methods, streams } = service;
        let closed = |method: &String| !ALWAYS.contains(&(name.as_str(), method.as_str()));
        let methods = methods.into_iter().map(|(method, handler)| {
            let handler = if closed(&method) { admitted(admission, handler) } else { handler };
            (method, handler)
        });
        let streams = streams.into_iter().map(|(method, handler)| {
            let admission = Arc::clone(admission);
            let handler: Arc<Stream> = Arc::new(Admitted { admission, handler });
            (method, handler)
        });
        let service = Service { methods: methods.collect(), streams: streams.collect() };
        (name, service)
    };
    services.into_iter().map(one).collect()
}

type Method = dyn MethodHandler + Send + Sync;
type Stream = dyn StreamHandler + Send + Sync;

fn admitted(admission: &Arc<Admission>, handler: Box<Method>) -> Box<Method> {
    Box::new(Admitted { admission: Arc::clone(admission), handler })
}

/// A handler behind the admission.
struct Admitted<H> {
    admission: Arc<Admission>,
    handler: H,
}

impl<H> Admitted<H> {
    /// The answer to a call that comes too early.
    fn refusal(&self) -> Option<Response> {
        let error = self.admission.check().err()?;
        match status::of(error.into()) {
            Error::RpcStatus(status) => Some(Response::init_status(status)),
            other => Some(other.into()),
        }
    }
}

#[async_trait]
impl MethodHandler for Admitted<Box<Method>> {
    async fn handler(&self, context: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        match self.refusal() {
            Some(refusal) => Ok(refusal),
            None => self.handler.handler(context, request).await,
        }
    }
}

#[async_trait]
impl StreamHandler for Admitted<Arc<Stream>> {
    async fn handler(
        &self,
        context: TtrpcContext,
        stream: StreamInner,
    ) -> ttrpc::Result<Option<Response>> {
        match self.refusal() {
            Some(refusal) => Ok(Some(refusal)),
            None => self.handler.handler(context, stream).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use ttrpc::Code;

    use super::*;
    use crate::reaper::Reaper;
    use crate::sandbox::Sandbox;

    fn services(sandbox: &Arc<Sandbox>) -> HashMap<String, Service> {
        super::super::services(sandbox).into_iter().flatten().collect()
    }

    /// What a call without a request is answered; `None` for success.
    async fn answer(service: &Service, method: &str) -> Option<ttrpc::Status> {
        let handler = &service.methods[method];
        handler.handler(TtrpcContext::default(), Request::default()).await.unwrap().non_ok()
    }

    #[tokio::test]
    async fn every_call_but_four_is_refused_before_configure() {
        let sandbox = Arc::new(Sandbox::new(Arc::new(Reaper::default())));
        let services = services(&sandbox);
        let all = services.iter().flat_map(|(name, service)| {
            service.methods.keys().map(move |method| (name.as_str(), service, method.as_str()))
        });
        let mut refused = 0;
        for (name, service, method) in
            all.filter(|(name, _, method)| !ALWAYS.contains(&(name, method)))
        {
            let status = answer(service, method).await.unwrap();
            assert_eq!(status.code(), Code::FAILED_PRECONDITION, "{name}.{method}");
            assert_eq!(status.message, "the sandbox is not configured yet");
            refused += 1;
        }
        assert!(refused > 15, "{refused}");
    }

    #[tokio::test]
    async fn a_guest_without_configuration_lives_and_can_be_configured() {
        let sandbox = Arc::new(Sandbox::new(Arc::new(Reaper::default())));
        let services = services(&sandbox);
        for (service, method) in ALWAYS {
            assert!(services[service].methods.contains_key(method), "{service}.{method}");
        }
        assert_eq!(answer(&services["cuddy.agent.v1.Health"], "Check").await, None);
        let status = answer(&services["cuddy.agent.v1.Sandbox"], "Configure").await.unwrap();
        assert_eq!(status.code(), Code::INVALID_ARGUMENT, "{status:?}");
        let container = &services["cuddy.agent.v1.Container"];
        let status = answer(container, "Delete").await.unwrap();
        assert_eq!(status.code(), Code::FAILED_PRECONDITION, "a failure has configured it");
        sandbox.admission().configure().unwrap().configured();
        let status = answer(container, "Delete").await.unwrap();
        assert_eq!(status.code(), Code::NOT_FOUND, "{status:?}");
        let status = answer(&services["cuddy.agent.v1.Sandbox"], "Configure").await.unwrap();
        assert_eq!(status.code(), Code::FAILED_PRECONDITION, "{status:?}");
    }
}
