//! Checks of the verification of pulled content: digests, truncated content and sizes.

use futures_util::future::try_join_all;

use super::image_support::{claim_start_fails, idle_workload, layer_downloads};
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::registry::{CutEnd, PushedImage, RepositoryBehavior, digest};
use crate::wire::response::State;

/// Checks of the section `images` about verification.
pub const CHECKS: &[Check] = &[
    check! {
        id: "images/digest-mismatch", run: layer_digests, covers: [HOST_IMG_002], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "images/manifest-digest-mismatch", run: manifest_digests, covers: [HOST_IMG_002],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "images/truncated", run: truncated, covers: [HOST_IMG_009], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "images/oversized", run: oversized, covers: [HOST_IMG_008], host: Own, roles: [Idle],
        needs: [Registry], budget_s: 180, slow: false,
    },
];

/// Largest limit of the size of an image that images.md allows.
const IMAGE_LIMIT_BYTES: u64 = 1 << 30;
/// Number of bytes that are missing in a truncated layer.
const MISSING_BYTES: usize = 4096;

/// Records the claim that the start of an image with a faulty layer fails.
///
/// Fails if the host did not request the layer, because the failure of the start then proves
/// nothing.
async fn claim_layer_refused(
    cx: &CheckContext,
    requirement: Requirement,
    name: &str,
    image: &PushedImage,
    description: &str,
) -> Flow {
    let workload = idle_workload(cx, image);
    let id = cx.id(name);
    let failed = claim_start_fails(cx, requirement, description, &id, &workload).await?;
    let log = cx.registry().log(&cx.repository(name));
    if failed.is_some() && layer_downloads(&log, &image.layer_digest) == 0 {
        let text = format!("{description}, but the host never asked for the layer");
        return Err(Blocked::Missing(text));
    }
    Ok(())
}

/// A layer that does not match its digest is refused, also when it is pulled again. The layer is a
/// valid image, so a host that does not verify it runs it.
async fn layer_digests(cx: &CheckContext) -> Flow {
    let lies = [
        ("plain", "sha256", RepositoryBehavior::Healthy),
        ("redirected", "sha256", RepositoryBehavior::RedirectBlob),
        ("sha512", "sha512", RepositoryBehavior::Healthy),
    ];
    let claims = lies.map(|(name, algorithm, behavior)| async move {
        let repository = cx.repository(name);
        let artifact = cx.artifact(Role::Idle);
        let artifact = artifact.with_false_layer_digest(algorithm, &repository);
        let pushed = cx.registry().push(&repository, "v1", artifact);
        cx.registry().set_behavior(&repository, behavior);
        let image = format!("a layer with a false digest ({name})");
        if algorithm == "sha256" {
            claim_layer_refused(cx, HOST_IMG_002, name, &pushed, &image).await?;
        } else {
            // A host may refuse the algorithm without a request.
            let workload = idle_workload(cx, &pushed);
            claim_start_fails(cx, HOST_IMG_002, &image, &cx.id(name), &workload).await?;
        }
        let again = format!("{image}, pulled again");
        let id = cx.id(&format!("{name}-again"));
        claim_start_fails(cx, HOST_IMG_002, &again, &id, &idle_workload(cx, &pushed)).await
    });
    try_join_all(claims).await?;
    Ok(())
}

/// A manifest that does not match the digest in the reference is refused. The manifest is that of a
/// valid image, and the header of the response contains the requested digest.
async fn manifest_digests(cx: &CheckContext) -> Flow {
    let (registry, repository) = (cx.registry(), cx.repository("false"));
    let push = |tag: &str| {
        let salt = format!("{repository}:{tag}");
        registry.push(&repository, tag, cx.artifact(Role::Idle).salted(&salt))
    };
    let (named, other) = (push("named"), push("other"));
    let served = other.digest.clone();
    let behavior = RepositoryBehavior::WrongManifestForDigest { served };
    registry.set_behavior(&repository, behavior);
    let valid = cx.push(Role::Idle);
    let absent = digest(cx.unique_name().as_bytes());
    let starts = [
        ("the manifest of another image", named.digest_reference),
        (
            "the manifest of another image, and its tag",
            format!("{}@{}", other.reference, named.digest),
        ),
        (
            "the tag of an image, and the digest of no image",
            format!("{}@{absent}", valid.reference),
        ),
    ];
    let claims = starts
        .into_iter()
        .enumerate()
        .map(|(number, (image, reference))| async move {
            for attempt in ["first", "second"] {
                let id = cx.id(&format!("{number}-{attempt}"));
                let workload = idle_workload(cx, reference.clone());
                let image = format!("{image} ({attempt} pull)");
                claim_start_fails(cx, HOST_IMG_002, &image, &id, &workload).await?;
            }
            Ok::<(), Blocked>(())
        });
    try_join_all(claims).await?;
    let log = registry.log(&repository);
    if !log
        .iter()
        .any(|request| request.path.ends_with(&named.digest))
    {
        let text = "a request for the manifest by its digest, but the host never asked for it";
        return Err(Blocked::Missing(text.to_owned()));
    }
    Ok(())
}

/// A truncated layer is refused, whatever the end of the response. The part that arrives is a valid
/// image, so a host that does not notice runs it.
async fn truncated(cx: &CheckContext) -> Flow {
    let ends = [
        ("announced", CutEnd::Announced),
        ("chunked", CutEnd::Chunked),
        ("complete", CutEnd::Complete),
    ];
    let claims = ends.map(|(name, end)| async move {
        let repository = cx.repository(name);
        let artifact = cx.artifact(Role::Idle).padded(MISSING_BYTES, &repository);
        let pushed = cx.registry().push(&repository, "v1", artifact);
        let missing_bytes = MISSING_BYTES;
        let behavior = RepositoryBehavior::CutBlob { missing_bytes, end };
        cx.registry().set_behavior(&repository, behavior);
        let image = format!("a truncated layer (response: {name})");
        claim_layer_refused(cx, HOST_IMG_009, name, &pushed, &image).await
    });
    try_join_all(claims).await?;
    Ok(())
}

/// An endless layer, an endless manifest and a layer that declares 1 TiB are refused without being
/// read to the end, and the host still replies.
async fn oversized(cx: &CheckContext) -> Flow {
    let huge = RepositoryBehavior::OversizeBlob {
        declared_bytes: 1 << 40,
    };
    let kinds = [
        ("layer", "an endless layer", RepositoryBehavior::EndlessBlob),
        (
            "manifest",
            "an endless manifest",
            RepositoryBehavior::EndlessManifest,
        ),
        ("terabyte", "a layer that declares 1 TiB", huge),
    ];
    let starts = kinds.map(|(name, description, behavior)| async move {
        let pushed = cx.push_as(name, Role::Idle, behavior);
        claim_start_fails(
            cx,
            HOST_IMG_008,
            description,
            &cx.id(name),
            &idle_workload(cx, &pushed),
        )
        .await?;
        let sent = cx.registry().sent_bytes(&cx.repository(name));
        let condition = format!("the host reads at most 1 GiB of {description}");
        cx.claim(HOST_IMG_008)
            .holds(&condition, sent <= IMAGE_LIMIT_BYTES, || {
                format!("it read more than {} MiB", sent >> 20)
            });
        Ok::<(), Blocked>(())
    });
    try_join_all(starts).await?;
    let status = cx.status(&cx.id("never-started")).await?;
    cx.claim(HOST_IMG_008).is(
        "state of an unknown id after oversized images (the host still replies)",
        status.state,
        State::NotFound,
    );
    Ok(())
}
