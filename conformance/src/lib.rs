//! Judges hosts and schedulers by the wasmCloud v2 host control protocol, as black boxes over NATS.
//!
//! | module | contents |
//! |---|---|
//! | [`spec`] | requirements, schema, deadlines and image roles, as data |
//! | [`wire`] | NATS, gRPC, protobuf and JSON, independent of any SDK |
//! | [`testbed`] | broker, registry, tap, beacon, guests and processes |
//! | [`check`] | checks, independent of the side: declaration, run, evidence, outcome, verdict |
//! | [`report`] | report of a run as text, JSON and JUnit |
//! | [`host`], [`scheduler`] | the two sides: suite, target, context, checks, monitors, preflight |
//! | [`models`] | model host, model scheduler, their mutants, and the self-test |
//! | [`suite`] | catalog of the checks and monitors of each side |
//! | [`cli`] | command line |

pub mod check;
pub mod cli;
pub mod host;
pub mod models;
pub mod report;
pub mod scheduler;
pub mod spec;
pub mod suite;
pub mod testbed;
pub mod wire;

pub use self::host::Suite;
