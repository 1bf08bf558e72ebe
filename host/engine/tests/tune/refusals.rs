//! What is refused before anything runs, and what can be read at any time.

use super::*;

#[tokio::test]
async fn trials_that_no_agent_could_run_are_refused_with_what_is_missing() {
    let lab = Lab::ready().await;
    let info = AgentInfo {
        name: "small".into(),
        cpus: 2,
        ..AgentInfo::default()
    };
    lab.engine
        .register_agent(&lab.workspace, info)
        .await
        .unwrap();
    let mut params = tune("hungry", json!({}));
    params["num_gpus"] = json!(0.5);
    lab.check_refused(
        None,
        &params,
        expect![[r#"
            /params/num_gpus: num_gpus is 0.5, but the agents here have at most 0 each
            Leave it out to train on processors; `trainshed devices` says what is missing."#]],
    )
    .await;
    params["num_gpus"] = json!(0);
    params["num_cpus"] = json!(2.5);
    lab.check_refused(
        None,
        &params,
        expect![[r#"
            /params/num_cpus: num_cpus is 2.5, but the agents here have at most 2 each
            Ask for less."#]],
    )
    .await;
    params["num_cpus"] = json!(2);
    lab.submit(params).await;
    let trial = lab.lease().await.unwrap().trial.unwrap();
    assert_eq!((trial.milli_cpus, trial.milli_gpus), (2000, 0));
}

#[tokio::test]
async fn what_happens_to_trials_can_be_read_at_any_time() {
    let lab = Lab::ready().await;
    let task = lab.submit(tune("seen", json!({"num_samples": 4}))).await;
    let (engine, workspace) = (&lab.engine, &lab.workspace);
    let waiting = engine.tuning(workspace, &task.id).await.unwrap();
    assert_eq!(
        (waiting.total, waiting.seq, waiting.best),
        (Some(4), 0, None)
    );
    let first = lab.lease().await.unwrap();
    lab.tell(&first, 1, json!({"accuracy": 0.25, "loss": 2}))
        .await
        .unwrap();
    let (table, seen) = engine.trial_table(workspace, &task.id, None).await.unwrap();
    let id = first.trial.clone().unwrap().id;
    let rate = first.settings["lr"].clone();
    assert_eq!(
        table,
        json!({
            "base": ["trial_id", "status"],
            "trials": {&id: {
                "base": [id, "RUNNING"], "hyperparameters": [rate], "metrics": [0.25, 2.0],
            }},
            "hyperparameters": ["lr"],
            "metrics": ["accuracy", "loss"],
            "best_trial": "",
        })
    );
    let (unchanged, _) = engine
        .trial_table(workspace, &task.id, Some(seen))
        .await
        .unwrap();
    assert_eq!(unchanged["trials"], json!({}));
    let second = lab.lease().await.unwrap();
    let (changed, _) = engine
        .trial_table(workspace, &task.id, Some(seen))
        .await
        .unwrap();
    let changed: Vec<&String> = changed["trials"].as_object().unwrap().keys().collect();
    assert_eq!(changed, [&second.trial.clone().unwrap().id]);
    lab.end(&first, 0.5).await;
    lab.end(&second, 0.75).await;
    lab.run_all(|rate| rate).await;

    let page = engine.trials(workspace, &task.id, 1, 2).await.unwrap();
    let numbers: Vec<u64> = page.items.iter().map(|trial| trial.number).collect();
    assert_eq!((numbers, page.next.as_deref()), (vec![1, 2], Some("3")));
    assert_eq!(page.items[0].task.as_ref(), Some(&second.task));
    let tuning = engine.tuning(workspace, &task.id).await.unwrap();
    assert_eq!(tuning.counts["TERMINATED"], 4);
    assert!(tuning.best.unwrap().best);
    let importance = engine.importance(workspace, &task.id).await.unwrap();
    assert_eq!(importance.first().map(|one| one.name.as_str()), Some("lr"));
    let (table, _) = engine.trial_table(workspace, &task.id, None).await.unwrap();
    assert_ne!(table["best_trial"], "");

    let other = lab.submit(lab.train("no search")).await;
    let refused = engine.tuning(workspace, &other.id).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("the task {} does not tune", other.id)
    );
}

#[tokio::test]
async fn a_space_or_a_setting_that_makes_no_sense_is_refused_before_anything_runs() {
    let lab = Lab::ready().await;
    let refused = |config| lab_refusal(&lab, config);
    refused(json!({"mode": "avg"}))
        .await
        .assert("/params/tune_config/mode: mode must be max or min, but it is `avg`");
    refused(json!({"search_alg": {"name": "magic"}}))
        .await
        .assert("/params/tune_config/search_alg/name: Unsupported search algorithm: magic.");
    refused(json!({"scheduler": "magic"}))
        .await
        .assert("/params/tune_config/scheduler/name: Unsupported scheduler: 'magic'.");
    assert!(lab.lease().await.is_none());
}

struct Said(String);

impl Said {
    #[track_caller]
    fn assert(&self, start: &str) {
        assert!(self.0.starts_with(start), "{}", self.0);
    }
}

async fn lab_refusal(lab: &Lab, config: Value) -> Said {
    let error = lab
        .try_submit(None, &tune("refused", config))
        .await
        .unwrap_err();
    Said(format!("{}: {error}", error.pointer().unwrap()))
}
