//! ListMetricDescriptors: which metrics there are.

use protocol::cri::ListMetricDescriptorsResponse;

use crate::fault::Fault;
use crate::metrics;

pub(super) async fn run() -> Result<ListMetricDescriptorsResponse, Fault> {
    Ok(ListMetricDescriptorsResponse { descriptors: metrics::descriptors() })
}
