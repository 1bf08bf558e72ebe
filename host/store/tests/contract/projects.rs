//! Projects.

use trainshed_core::ProjectId;
use trainshed_core::view::{NewProject, ProjectEdit, ProjectQuery};
use trainshed_store::ProjectError;

use crate::lab::{Lab, NOW, draft};

store_contract! {
    projects_are_renamed_moved_merged_and_deleted,
}

async fn projects_are_renamed_moved_merged_and_deleted(lab: Lab) {
    let first = lab.insert(draft("one", "vision/digits")).await;
    lab.insert(draft("two", "vision/letters")).await;
    lab.insert(draft("three", "audio/digits")).await;
    assert_eq!(
        lab.projects().await,
        "audio:0 audio/digits:1 vision:0 vision/digits:1 vision/letters:1"
    );
    let new = NewProject {
        name: "vision".into(),
        ..NewProject::default()
    };
    let taken = lab.store.create_project(&lab.workspace, &new, NOW).await;
    assert!(matches!(taken, Err(ProjectError::Taken(_))));
    let new = NewProject {
        name: "empty/one".into(),
        description: "nothing".into(),
        tags: vec!["t".into()],
        ..NewProject::default()
    };
    let made = lab
        .store
        .create_project(&lab.workspace, &new, NOW)
        .await
        .unwrap();
    assert_eq!((made.description.as_str(), made.tags.len()), ("nothing", 1));

    let rename = |id: ProjectId, name: &str| {
        let edit = ProjectEdit {
            name: Some(name.to_owned()),
            ..ProjectEdit::default()
        };
        let lab = &lab;
        async move {
            lab.store
                .edit_project(&lab.workspace, &id, &edit, None, NOW)
                .await
        }
    };
    let vision = lab.project_id("vision").await;
    let moved = rename(vision.clone(), "work/images").await.unwrap();
    assert_eq!(
        (moved.id, moved.name.as_str()),
        (vision.clone(), "work/images")
    );
    assert_eq!(lab.view(&first).await.project, "work/images/digits");
    let inside = rename(vision.clone(), "work/images/below").await;
    assert!(matches!(inside, Err(ProjectError::Inside { .. })));
    let taken = rename(vision.clone(), "audio").await;
    assert!(matches!(taken, Err(ProjectError::Taken(_))));
    let long = rename(vision.clone(), &"x".repeat(199)).await;
    assert!(matches!(long, Err(ProjectError::TooLong(_))));

    let audio = lab.project_id("audio").await;
    let merged = lab
        .store
        .merge_projects(&lab.workspace, &audio, &vision, NOW)
        .await
        .unwrap();
    assert_eq!(merged.id, vision);
    assert_eq!(
        lab.projects().await,
        "empty:0 empty/one:0 work:0 work/images:0 work/images/digits:2 work/images/letters:1"
    );
    let query = ProjectQuery {
        parent: Some("work/images".into()),
        limit: 1,
        ..ProjectQuery::default()
    };
    let page = lab.store.projects(&lab.workspace, &query).await.unwrap();
    assert_eq!(
        (page.items.len(), page.next.as_deref()),
        (1, Some("work/images/digits"))
    );

    let work = lab.project_id("work").await;
    let empty = lab.project_id("empty").await;
    let delete = |id: &ProjectId, to: Option<&ProjectId>, force| {
        let (lab, id, to) = (&lab, id.clone(), to.cloned());
        async move {
            lab.store
                .delete_project(&lab.workspace, &id, to.as_ref(), force, NOW)
                .await
        }
    };
    let refused = delete(&work, None, false).await;
    assert!(matches!(
        refused,
        Err(ProjectError::NotEmpty { tasks: 3, .. })
    ));
    let digits = lab.project_id("work/images/digits").await;
    assert_eq!(delete(&digits, Some(&empty), false).await.unwrap().len(), 2);
    assert_eq!(lab.view(&first).await.project, "empty");
    assert_eq!(delete(&work, None, true).await.unwrap().len(), 1);
    assert_eq!(lab.projects().await, "empty:2 empty/one:0");
    let gone = delete(&work, None, true).await;
    assert!(matches!(gone, Err(ProjectError::Unknown(_))));
}
