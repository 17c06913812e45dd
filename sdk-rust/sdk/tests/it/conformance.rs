//! The host of the README before the suite.

use crate::examples::program;

#[tokio::test(flavor = "multi_thread")]
async fn the_minimal_host_conforms() {
    let command = [program("minimal_host"), "{nats_url}".into()];
    berth_conformance::Suite::builder()
        .command(command)
        .profile(berth_conformance::requirements::Profile::Core)
        .run()
        .await
        .assert_conformant();
}
