//! What a delivery asks for, or how it is refused.

use berth_proto::{Workload, WorkloadStartRequest, WorkloadStatusRequest, WorkloadStopRequest};

use crate::bus::Delivery;
use crate::reply::{Code, MAX_ID_BYTES, Status};
use crate::subject::{self, Command};

/// A request that can be worked on, or the answer to one that cannot.
#[derive(Debug)]
pub(super) enum Request {
    Heartbeat,
    Start { id: String, workload: Box<Workload> },
    Stop { id: String },
    Status { id: String },
    Refused(Status),
}

impl Request {
    /// Reads whatever arrives; there is no failure, only a refusal.
    pub fn read(host_id: &str, delivery: &Delivery) -> Self {
        let read = match subject::parse_command(host_id, &delivery.subject) {
            Ok(Command::Heartbeat) => Ok(Self::Heartbeat),
            Ok(Command::Start) => read_start(&delivery.payload),
            Ok(Command::Stop) => {
                read_json::<WorkloadStopRequest>(&delivery.payload).and_then(|request| {
                    Ok(Self::Stop {
                        id: checked(request.workload_id)?,
                    })
                })
            }
            Ok(Command::Status) => {
                read_json::<WorkloadStatusRequest>(&delivery.payload).and_then(|request| {
                    Ok(Self::Status {
                        id: checked(request.workload_id)?,
                    })
                })
            }
            Err(unknown) => {
                let unknown = crate::reply::shorten(unknown, 100);
                let message = format!("there is no command {unknown:?}");
                Err(Status::refused("", Code::NotFound, message))
            }
        };
        read.unwrap_or_else(Self::Refused)
    }

    /// The id that it is about; empty when there is none.
    pub fn into_id(self) -> String {
        match self {
            Self::Start { id, .. } | Self::Stop { id } | Self::Status { id } => id,
            Self::Heartbeat | Self::Refused(_) => String::new(),
        }
    }
}

fn read_start(payload: &[u8]) -> Result<Request, Status> {
    let request = read_json::<WorkloadStartRequest>(payload)?;
    let id = checked(request.workload_id)?;
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
        // A -1 that somebody cast: it would mean for ever (HOST-START-010).
        let message = format!("field `workload.service.maxRestarts`: above {}", u32::MAX);
        return Err(Status::refused(id, Code::BadRequest, message));
    }
    Ok(Request::Start {
        id,
        workload: Box::new(workload),
    })
}

fn read_json<M: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<M, Status> {
    crate::json::read(payload)
        .map_err(|error| Status::refused("", Code::BadRequest, error.to_string()))
}

fn checked(id: String) -> Result<String, Status> {
    match id.len() {
        0 => Err(Status::refused(
            "",
            Code::BadRequest,
            "field `workloadId` is missing or empty",
        )),
        1..=MAX_ID_BYTES => Ok(id),
        bytes => {
            let message =
                format!("field `workloadId` has {bytes} bytes; this host takes {MAX_ID_BYTES}");
            Err(Status::refused("", Code::TooLarge, message))
        }
    }
}
