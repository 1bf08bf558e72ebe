//! Tasks that are tuned by their clones.

use super::*;

/// An experiment of the clones of a task.
fn clones(base: &TaskView, spaces: Value, samples: u64) -> NewExperiment {
    let new = json!({
        "name": "clones", "base_task": base.id, "hyperparameters": spaces,
        "tune_config": {"mode": "min", "metric": "loss", "num_samples": samples},
    });
    serde_json::from_value(new).unwrap()
}

#[tokio::test]
async fn a_task_that_a_plugin_runs_is_tuned_by_its_clones() {
    let lab = Lab::ready().await;
    let mut base = lab.train("base");
    base["hyperparameter"] = json!({"epochs": 3, "lr": 0.5, "net": {"hidden": 8}});
    let base = lab.submit(base).await;
    let lease = lab.lease().await.unwrap();
    lab.end(&lease, 0.5).await;
    let create = async |spaces: Value| {
        let made = lab
            .engine
            .create_experiment(&lab.workspace, clones(&base, spaces, 2));
        made.await.map_err(|error| error.to_string())
    };
    let rates = |name: &str| json!([{"name": name, "type": "uniform", "min": 0, "max": 1}]);
    assert_eq!(
        create(rates("lr")).await.unwrap_err(),
        "with a base task, name is that of a parameter with its section, e.g. `Args/lr`, but it \
         is `lr`"
    );
    assert_eq!(
        create(rates("Args/lr")).await.unwrap_err(),
        "the hyperparameters of a plugin are the section General, but this is `Args/lr`"
    );
    assert_eq!(
        create(rates("General/net/hidden")).await.unwrap_err(),
        "`General/net/hidden` is a part of a hyperparameter: search all of `General/net`"
    );
    let task = create(rates("General/lr")).await.unwrap();
    let mut seen = Vec::new();
    while let Some(lease) = lab.lease().await {
        let rate = lease.settings["lr"].as_f64().unwrap();
        let expected = json!({"lr": rate, "epochs": 3, "net": {"hidden": 8}});
        assert_eq!(json!(lease.settings), expected);
        let result = completed(json!({"loss": rate}));
        lab.finish(&lease, result).await.unwrap();
        seen.push(rate);
    }
    assert_eq!(seen.len(), 2);
    assert_eq!(lab.task(&task).await.status, TaskState::Completed);
}

#[tokio::test]
async fn a_trial_whose_clone_cannot_be_made_does_not_begin() {
    let lab = Lab::ready().await;
    let draft = serde_json::from_value(json!({"name": "script"})).unwrap();
    let (engine, workspace) = (&lab.engine, &lab.workspace);
    let base = engine.create_draft(workspace, draft).await.unwrap();
    let spaces = json!([{"name": "properties/lr", "type": "uniform", "min": 0, "max": 1}]);
    let new = clones(&base, spaces, 2);
    let task = engine.create_experiment(workspace, new).await.unwrap();
    for _ in 0..2 {
        let refused = engine.ask(workspace, &task.id).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the base task cannot be cloned: `properties/lr` is a user property, not a parameter"
        );
    }
    let tuning = engine.tuning(workspace, &task.id).await.unwrap();
    assert_eq!(tuning.counts.values().sum::<u64>(), 0);
}

#[tokio::test]
async fn a_task_of_a_program_elsewhere_is_tuned_by_its_clones_too() {
    let lab = Lab::ready().await;
    let draft = json!({"name": "script", "parameters": {"Args": {"lr": 0.5, "layers": 2}}});
    let draft = serde_json::from_value(draft).unwrap();
    let base = lab
        .engine
        .create_draft(&lab.workspace, draft)
        .await
        .unwrap();
    let spaces = json!([{"name": "Args/lr", "type": "uniform", "min": 0, "max": 1}]);
    let (engine, workspace) = (&lab.engine, &lab.workspace);
    let task = engine
        .create_experiment(workspace, clones(&base, spaces, 2))
        .await
        .unwrap();
    for _ in 0..2 {
        let trial = engine
            .ask(workspace, &task.id)
            .await
            .unwrap()
            .trial
            .unwrap();
        let clone = trial.task.unwrap();
        let parameters = engine.parameters(workspace, &clone).await.unwrap().unwrap();
        let found: Vec<(String, Value)> = parameters
            .iter()
            .map(|parameter| (parameter.path(), parameter.value.clone()))
            .collect();
        let rate = trial.config["Args/lr"].clone();
        assert!(
            found.contains(&("Args/lr".to_owned(), rate.clone())),
            "{found:?}"
        );
        assert!(
            found.contains(&("Args/layers".to_owned(), json!(2))),
            "{found:?}"
        );
        let view = engine.task(workspace, &clone).await.unwrap().unwrap();
        assert_eq!(view.name, format!("clones_{}", trial.id));
        assert_eq!(
            (view.status, view.parent),
            (TaskState::Created, Some(task.id.clone()))
        );
        let told = json!({"trial": trial.number, "attempt": trial.attempt, "state": "completed",
            "metrics": {"loss": rate}});
        let told: ToldTrial = serde_json::from_value(told).unwrap();
        engine.tell_end(workspace, &task.id, told).await.unwrap();
    }
    assert_eq!(lab.task(&task).await.status, TaskState::Completed);
}
