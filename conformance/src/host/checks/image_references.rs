//! Checks of image references, and of the forms of images and responses that a host must read.

use futures_util::future::try_join_all;

use super::image_support::{
    claim_becomes_running, claim_start_fails, idle_workload, private_registry,
};
use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::registry::{RepositoryBehavior, RequiredAuth};

/// Checks of the section `images` about references.
pub const CHECKS: &[Check] = &[
    check! {
        id: "images/tag-and-digest", run: tag_and_digest, covers: [HOST_IMG_001], host: Shared,
        roles: [CoreModule, Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "images/references", run: references, covers: [HOST_IMG_001], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "images/formats", run: formats, covers: [HOST_IMG_001], host: Shared, roles: [Idle],
        needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "images/two-registries", run: two_registries, covers: [HOST_IMG_001], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "images/invalid-references", run: invalid_references, covers: [HOST_IMG_006],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
];

/// Images are pulled by tag and by digest; if a reference has both, by digest.
async fn tag_and_digest(cx: &CheckContext) -> Flow {
    let pushed = cx.push(Role::Idle);
    let moving = cx.repository("moving");
    let idle = cx.registry().push(&moving, "v1", cx.artifact(Role::Idle));
    cx.registry()
        .push(&moving, "v1", cx.artifact(Role::CoreModule));
    let absent = cx.registry().reference(&moving, "absent");
    let starts = [
        ("an image by tag", pushed.reference),
        ("an image by digest", pushed.digest_reference),
        (
            "the digest of an image, and a tag that names another image",
            format!("{}@{}", idle.reference, idle.digest),
        ),
        (
            "the digest of an image, and an unknown tag",
            format!("{absent}@{}", idle.digest),
        ),
    ];
    let claims = starts
        .into_iter()
        .enumerate()
        .map(|(number, (image, reference))| async move {
            let (id, workload) = (cx.id(&number.to_string()), idle_workload(cx, reference));
            claim_becomes_running(cx, HOST_IMG_001, image, &id, &workload).await
        });
    try_join_all(claims).await?;
    Ok(())
}

/// References in all forms that the distribution specification allows name the pushed image.
async fn references(cx: &CheckContext) -> Flow {
    let long_tag = "t".repeat(128);
    let forms = [
        ("neither a tag nor a digest", "untagged", "latest", ""),
        ("a tag with capitals", "capitals", "V1.0-RC_2", ":V1.0-RC_2"),
        ("a name of several segments", "team/shop/web", "v1", ":v1"),
        ("a name with separators", "a.b-c_d__e--f", "v1", ":v1"),
        (
            "a tag of 128 characters",
            "long-tag",
            &long_tag,
            &format!(":{long_tag}"),
        ),
    ];
    let claims =
        forms
            .into_iter()
            .enumerate()
            .map(|(number, (form, name, tag, suffix))| async move {
                let (registry, repository) = (cx.registry(), cx.repository(name));
                registry.push(&repository, tag, cx.artifact(Role::Idle));
                let reference = format!("{}/{repository}{suffix}", registry.authority());
                let (id, workload) = (cx.id(&number.to_string()), idle_workload(cx, reference));
                let form = format!("a reference with {form}");
                claim_becomes_running(cx, HOST_IMG_001, &form, &id, &workload).await
            });
    try_join_all(claims).await?;
    Ok(())
}

/// Manifests, configs and redirects are read in all forms that registries use.
async fn formats(cx: &CheckContext) -> Flow {
    let idle = |name: &str| cx.artifact(Role::Idle).salted(&cx.repository(name));
    let forms = [
        (
            "a config of an OCI image",
            idle("oci-config").with_config_media_type("application/vnd.oci.image.config.v1+json"),
            RepositoryBehavior::Healthy,
        ),
        (
            "an empty config",
            idle("empty-config").with_config_media_type("application/vnd.oci.empty.v1+json"),
            RepositoryBehavior::Healthy,
        ),
        (
            "a Content-Type with a parameter",
            idle("parameter"),
            RepositoryBehavior::ManifestTypeWithParameter,
        ),
        (
            "a layer behind a redirect to another server",
            idle("redirect"),
            RepositoryBehavior::RedirectBlob,
        ),
        (
            "a layer behind a redirect with a relative URL",
            idle("relative"),
            RepositoryBehavior::RedirectBlobToPath,
        ),
    ];
    let claims =
        forms
            .into_iter()
            .enumerate()
            .map(|(number, (form, artifact, behavior))| async move {
                let name = number.to_string();
                let repository = cx.repository(&name);
                let pushed = cx.registry().push(&repository, "v1", artifact);
                cx.registry().set_behavior(&repository, behavior);
                let form = format!("an image with {form}");
                let workload = idle_workload(cx, &pushed);
                claim_becomes_running(cx, HOST_IMG_001, &form, &cx.id(&name), &workload).await
            });
    try_join_all(claims).await?;
    Ok(())
}

/// An image of one registry is not treated as the image with the same name on another registry.
async fn two_registries(cx: &CheckContext) -> Flow {
    let other = private_registry(RequiredAuth::None).await?;
    let here = cx.push(Role::Idle);
    cx.start_and_wait(&cx.id("here"), &idle_workload(cx, &here))
        .await?;
    let there = other.reference(&cx.repository(Role::Idle.name()), "v1");
    let workload = idle_workload(cx, there).pull_policy("IF_NOT_PRESENT");
    let image = "the name of an image that only another registry has";
    claim_start_fails(cx, HOST_IMG_001, image, &cx.id("there"), &workload).await?;
    Ok(())
}

/// Invalid image references are refused, for components and for services.
async fn invalid_references(cx: &CheckContext) -> Flow {
    let valid = cx.push(Role::Idle);
    let reference = valid.reference.as_str();
    let authority = cx.registry().authority();
    let invalid = [
        ("an empty reference", String::new()),
        ("a space", " ".to_owned()),
        ("a reference after a space", format!(" {reference}")),
        ("a reference before a space", format!("{reference} ")),
        ("a reference before a line feed", format!("{reference}\n")),
        ("a reference after a tab", format!("\t{reference}")),
        (
            "a reference in upper case",
            format!("{authority}/UPPER/Case:1"),
        ),
        ("a reference with a space", format!("{authority}/a b:1")),
        ("a reference with an empty tag", format!("{authority}/a:")),
        (
            "a reference with an invalid digest",
            format!("{authority}/a@sha256:xyz"),
        ),
    ];
    let workloads = invalid.into_iter().flat_map(|(image, reference)| {
        let component = idle_workload(cx, reference.clone());
        let service = idle_workload(cx, &valid).service(reference);
        [
            (format!("{image} of a component"), component),
            (format!("{image} of a service"), service),
        ]
    });
    let claims = workloads
        .enumerate()
        .map(|(number, (image, workload))| async move {
            let id = cx.id(&number.to_string());
            claim_start_fails(cx, HOST_IMG_006, &image, &id, &workload).await
        });
    try_join_all(claims).await?;
    Ok(())
}
