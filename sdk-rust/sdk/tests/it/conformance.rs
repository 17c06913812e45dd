//! The examples against the conformance suite.

use berth_conformance::spec::requirements::Profile;

use crate::examples::program;

#[tokio::test(flavor = "multi_thread")]
async fn minimal_host_conforms() {
    let command = [program("minimal_host"), "{nats_url}".into()];
    berth_conformance::Suite::builder()
        .command(command)
        .profile(Profile::Core)
        .run()
        .await
        .assert_conformant();
}

#[tokio::test(flavor = "multi_thread")]
async fn dir_scheduler_conforms() {
    use berth_conformance::scheduler::suite::Suite;
    use berth_conformance::scheduler::target::Target;

    let program = program("dir_scheduler");
    let mut target = Target::command([program.as_str(), "{nats_url}", "{dir}"]);
    target.profiles = vec![Profile::Scheduler];
    Suite::new(target).run().await.assert_conformant();
}
