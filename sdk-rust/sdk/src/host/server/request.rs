//! Decoding and validation of requests.

use berth_proto::{
    ImagePullPolicy, Workload, WorkloadStartRequest, WorkloadStatusRequest, WorkloadStopRequest,
};

use crate::bus::Delivery;
use crate::reply::{Code, MAX_ID_BYTES, Status};
use crate::subject::{self, Command};

/// A request as it arrives on the bus.
#[derive(Debug)]
pub(super) enum IncomingRequest {
    Heartbeat,
    Command(Request),
}

impl IncomingRequest {
    /// Reads a delivery. An invalid request becomes a refusal, not an error.
    pub fn read(host_id: &str, delivery: &Delivery) -> Self {
        let payload = &delivery.payload;
        Self::Command(match subject::parse_command(host_id, &delivery.subject) {
            Ok(Command::Heartbeat) => return Self::Heartbeat,
            Ok(Command::Start) => read_json(payload, Request::start),
            Ok(Command::Stop) => read_json(payload, Request::stop),
            Ok(Command::Status) => read_json(payload, Request::status),
            Err(unknown) => {
                let unknown = crate::text::shorten(unknown, 100);
                let message = format!("unknown command {unknown:?}");
                Request::Refused(Status::refused("", Code::NotFound, message))
            }
        })
    }
}

/// A valid command, or the reply to an invalid one.
#[derive(Debug)]
pub(super) enum Request {
    Start { id: String, workload: Box<Workload> },
    Stop { id: String },
    Status { id: String },
    Refused(Status),
}

impl Request {
    pub fn start(message: WorkloadStartRequest) -> Self {
        checked_start(message).unwrap_or_else(Self::Refused)
    }

    pub fn stop(message: WorkloadStopRequest) -> Self {
        checked_id(message.workload_id).map_or_else(Self::Refused, |id| Self::Stop { id })
    }

    pub fn status(message: WorkloadStatusRequest) -> Self {
        checked_id(message.workload_id).map_or_else(Self::Refused, |id| Self::Status { id })
    }

    /// Returns the ID of the workload; empty if there is none.
    pub fn into_id(self) -> String {
        match self {
            Self::Start { id, .. } | Self::Stop { id } | Self::Status { id } => id,
            Self::Refused(_) => String::new(),
        }
    }
}

fn checked_start(request: WorkloadStartRequest) -> Result<Request, Status> {
    let id = checked_id(request.workload_id)?;
    let Some(workload) = request.workload else {
        return Err(Status::refused(
            id,
            Code::BadRequest,
            "field `workload` is missing",
        ));
    };
    let restarts = workload
        .service
        .as_ref()
        .map_or(0, |service| service.max_restarts);
    if restarts > u64::from(u32::MAX) {
        // Probably -1, cast to an unsigned integer: unlimited restarts (HOST-START-010).
        let message = format!("field `workload.service.maxRestarts`: above {}", u32::MAX);
        return Err(Status::refused(id, Code::BadRequest, message));
    }
    if let Some(field) = unknown_enum(&workload) {
        let message = format!("field `workload.{field}`: unknown enum value");
        return Err(Status::refused(id, Code::BadRequest, message));
    }
    Ok(Request::Start {
        id,
        workload: Box::new(workload),
    })
}

/// Returns the first enum field with an unknown value. JSON decoding rejects these; the binary
/// encoding keeps them.
fn unknown_enum(workload: &Workload) -> Option<String> {
    let known = |policy: i32| ImagePullPolicy::try_from(policy).is_ok();
    if let Some(service) = &workload.service
        && !known(service.image_pull_policy)
    {
        return Some("service.imagePullPolicy".to_owned());
    }
    let components = workload
        .wit_world
        .iter()
        .flat_map(|world| &world.components);
    let unknown = components
        .enumerate()
        .find(|(_, component)| !known(component.image_pull_policy));
    unknown.map(|(index, _)| format!("witWorld.components[{index}].imagePullPolicy"))
}

fn read_json<M: serde::de::DeserializeOwned>(
    payload: &[u8],
    request: impl FnOnce(M) -> Request,
) -> Request {
    match crate::json::decode(payload) {
        Ok(message) => request(message),
        Err(error) => {
            let status = Status::refused(readable_id(payload), Code::BadRequest, error.to_string());
            Request::Refused(status)
        }
    }
}

/// Returns the ID in a request with another invalid field; empty if it cannot be read.
fn readable_id(payload: &[u8]) -> String {
    // Of all requests, the one for a status has no other fields.
    let id = crate::json::decode::<WorkloadStatusRequest>(payload)
        .map(|request| request.workload_id)
        .unwrap_or_default();
    if id.len() > MAX_ID_BYTES {
        return String::new();
    }
    id
}

fn checked_id(id: String) -> Result<String, Status> {
    match id.len() {
        0 => Err(Status::refused(
            "",
            Code::BadRequest,
            "field `workloadId` is missing or empty",
        )),
        1..=MAX_ID_BYTES => Ok(id),
        bytes => {
            let message = format!(
                "field `workloadId` has {bytes} bytes; this host accepts at most {MAX_ID_BYTES}"
            );
            Err(Status::refused("", Code::TooLarge, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_every_id_that_can_be_read() {
        let longest = "x".repeat(MAX_ID_BYTES);
        let too_long = "x".repeat(MAX_ID_BYTES + 1);
        let cases = [
            (
                r#"{"workloadId":"a","workload":{"name":7}}"#.to_owned(),
                "a",
            ),
            (
                r#"{"workload":{"name":7},"workload_id":"a"}"#.to_owned(),
                "a",
            ),
            (
                r#"{"workload":[],"workloadId":"\u00e9 /"}"#.to_owned(),
                "é /",
            ),
            (
                r#"{"workload":"","workloadId":"a","later":{}}"#.to_owned(),
                "a",
            ),
            (
                format!(r#"{{"workloadId":"{longest}","workload":1}}"#),
                &longest,
            ),
            (format!(r#"{{"workloadId":"{too_long}","workload":1}}"#), ""),
            (r#"{"workloadId":"","workload":1}"#.to_owned(), ""),
            (r#"{"workloadId":7,"workload":1}"#.to_owned(), ""),
            (
                r#"{"workloadId":"a","workload_id":"b","workload":1}"#.to_owned(),
                "",
            ),
            (r#"[{"workloadId":"a"}]"#.to_owned(), ""),
            (r#"{"workloadId":"a""#.to_owned(), ""),
        ];
        for (payload, id) in &cases {
            let Request::Refused(status) = read_json(payload.as_bytes(), Request::start) else {
                panic!("{payload} is accepted");
            };
            assert_eq!(status.id, *id, "{payload}");
            assert_eq!(status.code, Some(Code::BadRequest), "{payload}");
        }
    }
}
