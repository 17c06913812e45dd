//! Sweeps: many requests to one host, a bounded number of them in flight.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::check::outcome::{Blocked, Flow};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::wire::response::{Headers, Reply, Response, State};

/// Maximum number of requests in flight. A host replies to 200 at a time (HOST-RESIL-008), and
/// other checks share the host.
const IN_FLIGHT: usize = 16;
/// Number of missing replies after which a sweep ends. More do not help to find the fault, and
/// each takes 5 s.
const MISSING_REPLIES_MAX: usize = 8;

/// One request of a sweep, with the data that its judge needs.
#[derive(Debug)]
pub(super) struct Request<T> {
    /// Data for the judge.
    pub case: T,
    /// Command.
    pub command: &'static str,
    /// Payload.
    pub payload: Bytes,
    /// Id of the workload that the request starts, if it is accepted.
    pub starts: Option<String>,
}

/// Sends the requests and passes each reply to `judge`. Stops every workload that was started.
///
/// Ends early if the host does not reply, which `judge` has to record.
pub(super) async fn sweep<T: Send>(
    cx: &CheckContext,
    requests: Vec<Request<T>>,
    mut judge: impl FnMut(&T, &Reply) + Send,
) -> Flow {
    let replies = requests.into_iter().map(|request| async move {
        let reply = send(cx, &request).await?;
        Ok::<_, Blocked>((request.case, reply))
    });
    let mut replies = stream::iter(replies).buffer_unordered(IN_FLIGHT);
    let mut missing_replies = 0;
    while let Some(replied) = replies.next().await {
        let (case, reply) = replied?;
        judge(&case, &reply);
        missing_replies += usize::from(reply.response().is_none());
        if missing_replies == MISSING_REPLIES_MAX {
            break;
        }
    }
    Ok(())
}

/// Sends a request, and a stop for the workload that it has started.
async fn send<T>(cx: &CheckContext, request: &Request<T>) -> Result<Reply, Blocked> {
    let limit = match request.starts {
        Some(_) => deadlines::START_REPLY.limit,
        None => deadlines::REPLY.limit,
    };
    let payload = request.payload.clone();
    let reply = cx
        .send_within(request.command, payload, Headers::none(), limit)
        .await?;
    if let Some(id) = &request.starts
        && reply
            .response()
            .is_some_and(|response| !is_refusal(response))
    {
        cx.track_id(id);
        let stop = json!({ "workloadId": id }).to_string();
        cx.send("workload.stop", stop, Headers::none()).await?;
    }
    Ok(reply)
}

/// Returns whether nothing exists under the id after this reply to its first start.
fn is_refusal(response: &Response) -> bool {
    response.state == State::Error && response.error_code.is_some()
}
