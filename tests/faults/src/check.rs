//! Compares what the server has with the ledger.

use std::collections::BTreeMap;

use trainshed_wire::Client;

use crate::ledger::{self, Deed};
use crate::writers::Writers;

/// What a check has found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Acknowledged deeds that were looked for.
    pub(crate) acknowledged: u64,
    /// Points of them.
    pub(crate) points: u64,
    /// Contents of them that were read.
    pub(crate) contents: u64,
    /// Deeds that are not there, or not as they were acknowledged.
    pub(crate) lost: u64,
    /// Points that are there more often than they were sent.
    pub(crate) twice: u64,
}

/// Looks for every deed that was acknowledged; writers must be at rest. Contents are read, too,
/// where `contents` says so.
pub(crate) async fn check(client: &Client, writers: &Writers, contents: bool) -> Counts {
    let mut counts = Counts::default();
    for (writer, task) in writers.tasks.iter().enumerate() {
        let deeds = writers.ledger.of(writer);
        counts.acknowledged += deeds.len() as u64;
        check_points(client, (writer, task), &deeds, &mut counts).await;
        check_artifacts(client, task, &deeds, contents, &mut counts).await;
    }
    counts
}

/// Every point is there with its value, and was counted once.
async fn check_points(
    client: &Client,
    (writer, task): (usize, &str),
    deeds: &[Deed],
    counts: &mut Counts,
) {
    let mut sent: BTreeMap<u64, u64> = BTreeMap::new();
    for curve in 0..3 {
        let found = all_points(client, task, curve).await;
        for deed in deeds {
            let Deed::Points {
                first,
                count,
                series,
                ..
            } = deed
            else {
                continue;
            };
            if curve >= *series {
                continue;
            }
            *sent.entry(curve).or_default() += count;
            counts.points += count;
            let is_there = |step: u64| {
                let expected = ledger::value(writer, curve, step).to_bits();
                found
                    .get(&step)
                    .is_some_and(|value| value.to_bits() == expected)
            };
            if !(*first..first + count).all(is_there) {
                counts.lost += 1;
            }
        }
    }
    let metrics = client
        .metrics(task)
        .await
        .expect("a server at rest answers");
    for summary in metrics.scalars {
        let curve = summary
            .series
            .trim_start_matches('s')
            .parse()
            .unwrap_or(u64::MAX);
        let expected = sent.get(&curve).copied().unwrap_or(0);
        counts.twice += summary.count.saturating_sub(expected);
        counts.lost += u64::from(summary.count < expected);
    }
}

async fn all_points(client: &Client, task: &str, curve: u64) -> BTreeMap<u64, f64> {
    let mut found = BTreeMap::new();
    let mut from = Some(0);
    let series = format!("s{curve}");
    while let Some(start) = from {
        let page = client.curve(task, ledger::title(), &series, start).await;
        let Ok(page) = page else {
            // There is no such curve as long as no batch had one.
            return found;
        };
        found.extend(
            page.iterations
                .iter()
                .copied()
                .zip(page.values.iter().map(|v| v.0)),
        );
        from = page.next;
    }
    found
}

async fn check_artifacts(
    client: &Client,
    task: &str,
    deeds: &[Deed],
    contents: bool,
    counts: &mut Counts,
) {
    let artifacts = client.artifacts(task, false).await;
    let artifacts = artifacts.expect("a server at rest answers");
    let folder = tempfile::tempdir().expect("the harness has room for its own files");
    for deed in deeds {
        let Deed::Artifact { number, digest } = deed else {
            continue;
        };
        let name = number.to_string();
        let kept = artifacts.iter().find(|artifact| artifact.name == name);
        let is_recorded = kept.is_some_and(|artifact| artifact.sha256 == Some(*digest));
        let is_readable = !contents || {
            counts.contents += 1;
            // A download is compared with its digest.
            client
                .download(digest, &folder.path().join(&name))
                .await
                .is_ok()
        };
        if !(is_recorded && is_readable) {
            counts.lost += 1;
        }
    }
}
