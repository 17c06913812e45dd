//! Judges any host and any scheduler that speaks the wasmCloud v2 host control protocol, over NATS and from outside.
//!
//! | module | contents |
//! |---|---|
//! | [`spec`] | requirements, schema, deadlines and image roles, as data |
//! | [`wire`] | NATS, gRPC, protobuf and JSON as the suite reads and writes them |
//! | [`testbed`] | broker, registry, tap, beacon, guests and processes |
//! | [`check`] | a check: declaration, run, evidence, outcome, verdict |
//! | [`report`] | the report of a run as text, JSON and JUnit |
//! | [`host`], [`scheduler`] | the two sides: suite, target, context, checks, monitors, preflight |
//! | [`models`] | the model host and the model scheduler, their mutants, and the self-test |
//! | [`suite`] | the catalog of checks, requirements and monitors of either side |
//! | [`cli`] | the command line |

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
