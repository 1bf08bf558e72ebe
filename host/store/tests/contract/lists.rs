//! Lists with pages, documents that are changed only as they were read, and keys.

use serde_json::json;
use trainshed_core::model::{ModelEdit, Registration};
use trainshed_core::task::Verb;
use trainshed_core::view::{DatasetEdit, ProjectEdit, TaskQuery, entity_tag};
use trainshed_store::{DatasetError, KeyError, ListPart, ModelError, ModelList, ProjectError};

use crate::lab::{Lab, NOW, completed, model};

store_contract! {
    what_is_archived_is_left_out_of_lists_unless_asked_for,
    lists_of_models_and_versions_go_on_behind_the_last_of_a_page,
    a_document_that_was_changed_since_it_was_read_stays_as_it_is,
    the_version_before_another_is_of_its_name,
    a_project_is_named_by_its_id_too,
    a_key_is_made_listed_and_taken_back,
}

impl Lab {
    async fn model_names(&self, list: ModelList<'_>) -> String {
        let models = self.store.listed_models(&self.workspace, &list).await;
        let name = |model: trainshed_core::view::ModelView| {
            let kept: Vec<_> = model.metadata.iter().map(|(_, value)| &**value).collect();
            format!("{}[{}]", model.name, kept.join(" "))
        };
        let names: Vec<_> = models.unwrap().into_iter().map(name).collect();
        names.join(" ")
    }

    async fn register(&self, name: &str) -> u64 {
        let new: Registration = serde_json::from_value(json!({
            "name": name, "uri": "https://host/x", "metadata": [{"key": "kind", "value": name}],
        }))
        .unwrap();
        self.store
            .register_model(&self.workspace, &new, NOW)
            .await
            .unwrap()
    }
}

fn all(limit: u64) -> ListPart {
    ListPart {
        archived: true,
        after: None,
        limit,
    }
}

async fn what_is_archived_is_left_out_of_lists_unless_asked_for(lab: Lab) {
    let kept = lab.draft("kept").await;
    let hidden = lab.draft("hidden").await;
    lab.store
        .archive_task(&lab.workspace, &hidden, true, NOW)
        .await
        .unwrap();
    // A tag that only looks like it.
    lab.edit(
        &kept,
        json!({"system_tags": ["Archived", "\"archived", "[\"archived", "archived\""]}),
    )
    .await
    .unwrap();
    for (archived, expected) in [(false, vec![&kept]), (true, vec![&hidden, &kept])] {
        let query = TaskQuery {
            archived,
            limit: 10,
            ..TaskQuery::default()
        };
        let page = lab.store.tasks(&lab.workspace, &query).await.unwrap();
        let mut ids: Vec<_> = page.items.iter().map(|task| &task.id).collect();
        ids.sort();
        let mut expected = expected;
        expected.sort();
        assert_eq!(ids, expected);
    }
}

async fn lists_of_models_and_versions_go_on_behind_the_last_of_a_page(lab: Lab) {
    lab.register("one").await;
    let two = lab.register("two").await;
    let three = lab.register("three").await;
    lab.store
        .archive_model(&lab.workspace, two, true, NOW)
        .await
        .unwrap();
    let list = |part, metadata| ModelList { part, metadata };
    let page = list(all(2), None);
    assert_eq!(lab.model_names(page).await, "three[three] two[two]");
    let rest = ListPart {
        after: Some(two),
        ..all(2)
    };
    assert_eq!(lab.model_names(list(rest, None)).await, "one[one]");
    let shown = ListPart {
        archived: false,
        ..all(9)
    };
    assert_eq!(
        lab.model_names(list(shown, None)).await,
        "three[three] one[one]"
    );
    let kept = list(all(9), Some(("kind", Some("two"))));
    assert_eq!(lab.model_names(kept).await, "two[two]");
    let any = list(all(1), Some(("kind", None)));
    assert_eq!(lab.model_names(any).await, "three[three]");
    assert_eq!(
        lab.model_names(list(all(9), Some(("other", None)))).await,
        ""
    );
    assert!(three > two);

    let first = lab.dataset("first", &[("a", b"1")]).await;
    let second = lab.dataset("second", &[("a", b"2")]).await;
    let page = lab.store.datasets(&lab.workspace, all(1)).await.unwrap();
    assert_eq!(page[0].id, second.id);
    let rest = ListPart {
        after: Some(second.id),
        ..all(9)
    };
    let page = lab.store.datasets(&lab.workspace, rest).await.unwrap();
    assert_eq!(page[0].id, first.id);
}

async fn a_document_that_was_changed_since_it_was_read_stays_as_it_is(lab: Lab) {
    let tag = |document: serde_json::Value| entity_tag(document.to_string().as_bytes());
    let other = tag(json!("another"));

    let running = lab.run("a run").await;
    let weights = lab.put(b"weights").await;
    let report = model("best", 1, weights, 7);
    lab.report(&running, 0, vec![report]).await;
    lab.finish(&running, completed()).await.unwrap();
    let made = lab.store.models(&lab.workspace, None).await.unwrap();
    let id = made[0].id;
    let edit: ModelEdit = serde_json::from_value(json!({"comment": "x"})).unwrap();
    let write = async |expected: &str| {
        let written = lab
            .store
            .edit_model(&lab.workspace, id, &edit, Some(expected), NOW);
        written.await
    };
    let read = lab.store.model(&lab.workspace, id).await.unwrap().unwrap();
    assert!(matches!(
        write(&other).await,
        Err(ModelError::ChangedSince(_))
    ));
    let unchanged = lab.store.model(&lab.workspace, id).await.unwrap().unwrap();
    assert_eq!(unchanged, read);
    let as_read = entity_tag(&serde_json::to_vec(&read).unwrap());
    write(&as_read).await.unwrap();
    assert!(write(&as_read).await.is_err());

    let version = lab.dataset("digits", &[("a", b"1")]).await.id;
    let edit: DatasetEdit = serde_json::from_value(json!({"tags": ["x"]})).unwrap();
    let write = lab
        .store
        .edit_dataset(&lab.workspace, version, &edit, Some(&other), NOW);
    assert!(matches!(write.await, Err(DatasetError::ChangedSince(_))));

    lab.draft("a draft").await;
    let project = lab.project_id("default").await;
    let edit: ProjectEdit = serde_json::from_value(json!({"tags": ["x"]})).unwrap();
    let write = lab
        .store
        .edit_project(&lab.workspace, &project, &edit, Some(&other), NOW);
    assert!(matches!(write.await, Err(ProjectError::ChangedSince(_))));
}

async fn the_version_before_another_is_of_its_name(lab: Lab) {
    let first = lab.dataset("numerals", &[("a", b"1")]).await.id;
    lab.dataset("letters", &[("a", b"2")]).await;
    let second = lab.dataset("numerals", &[("a", b"3")]).await.id;
    let before = async |id| lab.store.version_before(&lab.workspace, id).await.unwrap();
    assert_eq!(before(second).await, Some(first));
    assert_eq!(before(first).await, None);
    assert_eq!(before(77).await, None);
}

async fn a_project_is_named_by_its_id_too(lab: Lab) {
    let task = lab.draft("a draft").await;
    let moved = lab
        .store
        .move_to_project(&lab.workspace, &task, "deep/vision", NOW);
    moved.await.unwrap();
    let id = lab.project_id("deep/vision").await;
    let other = lab.draft("another").await;
    let moved = lab
        .store
        .move_to_project(&lab.workspace, &other, id.as_str(), NOW);
    moved.await.unwrap();
    assert_eq!(lab.view(&other).await.project, "deep/vision");
    lab.act(&other, Verb::Start).await.unwrap();
}

async fn a_key_is_made_listed_and_taken_back(lab: Lab) {
    let first = lab.store.keys(&lab.workspace).await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].name, "");
    let only = lab.store.revoke_key(&lab.workspace, &first[0].id).await;
    assert!(matches!(only, Err(KeyError::Last)));

    let made = lab
        .store
        .make_key(&lab.workspace, "ada", "key-of-ada", NOW)
        .await
        .unwrap();
    let holder = lab.store.key_holder("key-of-ada").await.unwrap().unwrap();
    assert_eq!(holder, (lab.workspace.clone(), "ada".to_owned()));
    let listed = lab.store.keys(&lab.workspace).await.unwrap();
    assert!(listed.contains(&made), "{listed:?}");

    let revoked = lab.store.revoke_key(&lab.workspace, &made.id).await;
    revoked.unwrap();
    assert_eq!(lab.store.key_holder("key-of-ada").await.unwrap(), None);
    let again = lab.store.revoke_key(&lab.workspace, &made.id).await;
    assert!(matches!(again, Err(KeyError::Unknown(_))));
}
