//! The examples before the suite.

use berth_conformance::requirements::Profile;

use crate::examples::program;

#[tokio::test(flavor = "multi_thread")]
async fn the_minimal_host_conforms() {
    let command = [program("minimal_host"), "{nats_url}".into()];
    berth_conformance::Suite::builder()
        .command(command)
        .profile(Profile::Core)
        .run()
        .await
        .assert_conformant();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scheduler_for_a_directory_conforms() {
    use berth_conformance::scheduler::{suite::Suite, target::Target};

    let program = program("dir_scheduler");
    let mut target = Target::command([program.as_str(), "{nats_url}", "{dir}"]);
    target.profiles = vec![Profile::Scheduler];
    Suite::new(target).run().await.assert_conformant();
}
