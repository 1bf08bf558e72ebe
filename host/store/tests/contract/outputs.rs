//! What a task keeps: artifacts with their versions, and snapshots of models.

use expect_test::expect;
use trainshed_core::artifact::{ArtifactContent, ArtifactType, NewArtifact};
use trainshed_core::model::{Keep, ScoreMode, Snapshot};
use trainshed_core::report::{Real, Report};
use trainshed_store::{GarbageRules, LeaseError};

use crate::lab::{Lab, NOW, artifact, completed, model};

store_contract! {
    an_artifact_that_is_put_again_is_a_version_only_when_it_has_changed,
    a_lost_lease_puts_no_artifact,
    of_snapshots_the_best_and_the_last_stay_and_those_in_use,
}

async fn an_artifact_that_is_put_again_is_a_version_only_when_it_has_changed(lab: Lab) {
    let running = lab.run("a run").await;
    let one = artifact("notes", lab.put(b"one").await);
    let other = artifact("notes", lab.put(b"other").await);
    let noted = NewArtifact {
        display: vec![("unit".into(), "m".into())],
        ..other.clone()
    };
    let link = NewArtifact {
        content: ArtifactContent::Elsewhere("s3://bucket/notes".into()),
        kind: ArtifactType::Link,
        ..other.clone()
    };
    for file in [
        &one, &one, &other, &other, &noted, &noted, &link, &link, &one,
    ] {
        let (lease, until) = ((&running.task, running.fence), NOW.plus_millis(1000));
        let put = lab
            .store
            .put_leased_artifact(&lab.workspace, lease, file, until, NOW);
        assert!(put.await.unwrap());
        let again = lab
            .store
            .put_artifact(&lab.workspace, &running.task, file, NOW);
        assert!(again.await.unwrap());
    }
    let history = lab.store.artifacts(&lab.workspace, &running.task, true);
    let history: Vec<String> = history
        .await
        .unwrap()
        .iter()
        .map(|artifact| {
            let digest = artifact.sha256.map(|digest| digest.to_string());
            let place = digest.or(artifact.uri.clone()).unwrap();
            let former = artifact.replaced.is_some();
            let notes = artifact.display.len();
            format!("{} {} {notes} {former}", artifact.version, &place[..8])
        })
        .collect();
    expect![[r#"
        5 7692c3ad 0 false
        4 s3://buc 0 true
        3 d9298a10 1 true
        2 d9298a10 0 true
        1 7692c3ad 0 true"#]]
    .assert_eq(&history.join("\n"));
}

async fn a_lost_lease_puts_no_artifact(lab: Lab) {
    let running = lab.run("a run").await;
    let file = artifact("notes", lab.put(b"one").await);
    let put = async |fence| {
        let (lease, until) = ((&running.task, fence), NOW.plus_millis(1000));
        lab.store
            .put_leased_artifact(&lab.workspace, lease, &file, until, NOW)
            .await
    };
    let stale = put(running.fence - 1).await;
    assert!(matches!(stale, Err(LeaseError::Stale { .. })));
    lab.finish(&running, completed()).await.unwrap();
    let late = put(running.fence).await;
    assert!(matches!(late, Err(LeaseError::Stale { .. })));
    let kept = lab.store.artifacts(&lab.workspace, &running.task, true);
    assert_eq!(kept.await.unwrap(), []);
}

async fn of_snapshots_the_best_and_the_last_stay_and_those_in_use(lab: Lab) {
    let running = lab.run("a run").await;
    let mut files = Vec::new();
    let mut snapshot = async |iteration: u64, score: f64| {
        let content = format!("weights {iteration}");
        let digest = lab.put(content.as_bytes()).await;
        files.push(digest);
        let size = content.len() as u64;
        let name = format!("weights.{iteration}");
        let Report::Model(mut saved) = model(&name, iteration, digest, size) else {
            unreachable!("it is a model");
        };
        saved.snapshot = Some(Snapshot {
            of: "weights".into(),
            score: Some(Real(score)),
            keep: Keep {
                best: 2,
                last: 1,
                mode: ScoreMode::Min,
            },
        });
        lab.report(&running, iteration, vec![Report::Model(saved)])
            .await;
    };
    for (iteration, score) in (1..).zip([0.9, 0.1, f64::NAN, 0.5, 0.7]) {
        snapshot(iteration, score).await;
    }
    let output = Report::Output {
        name: "weights".into(),
    };
    lab.report(&running, 6, vec![output]).await;
    lab.finish(&running, completed()).await.unwrap();
    let kept = lab.store.models(&lab.workspace, Some(&running.task)).await;
    let kept: Vec<String> = kept.unwrap().into_iter().map(|one| one.name).collect();
    assert_eq!(kept, ["weights.5", "weights.4", "weights.2"]);
    let view = lab.view(&running.task).await;
    let best = view.result.unwrap()["model_id"].as_u64().unwrap();
    let best = lab
        .store
        .model(&lab.workspace, best)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(best.name, "weights.2");
    let rules = GarbageRules {
        keep_ms: 0,
        keep_uploads_ms: 0,
    };
    lab.store.collect_garbage(None, rules, NOW).await.unwrap();
    let mut there = Vec::new();
    for file in &files {
        there.push(lab.read(file).await.is_some());
    }
    assert_eq!(
        there,
        [false, true, false, true, true],
        "their files go too"
    );
}
