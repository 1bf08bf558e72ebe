//! Host bindings generated from `wit/`.

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package trainshed:host;

        // Every export that the host knows; a component has some of them, so they are
        // looked up one by one.
        world everything {
            include trainshed:plugin/imports@0.1.0;
            export trainshed:plugin/manifest@0.1.0;
            export trainshed:plugin/train@0.1.0;
            export trainshed:plugin/tune@0.1.0;
            export trainshed:plugin/preprocess@0.1.0;
        }
    ",
    world: "trainshed:host/everything",
    imports: {
        // Only what hands something to the host's services can wait.
        "trainshed:plugin/run.[method]run.log-metric": async | trappable,
        "trainshed:plugin/run.[method]run.log-metrics": async | trappable,
        "trainshed:plugin/run.[method]run.log-visualization": async | trappable,
        "trainshed:plugin/run.[method]run.report-scalar": async | trappable,
        "trainshed:plugin/run.[method]run.report-single": async | trappable,
        "trainshed:plugin/run.[method]run.report-text": async | trappable,
        "trainshed:plugin/run.[method]run.set-progress": async | trappable,
        "trainshed:plugin/run.[method]run.report": async | trappable,
        "trainshed:plugin/run.[method]run.set-checkpoint-output": async | trappable,
        "trainshed:plugin/dataset.[method]dataset.commit-version": async | trappable,
        "trainshed:plugin/reports.plot": async | trappable,
        "trainshed:plugin/reports.media": async | trappable,
        "trainshed:plugin/reports.media-link": async | trappable,
        "trainshed:plugin/reports.trials": async | trappable,
        "trainshed:plugin/settings.connect": async | trappable,
        "trainshed:plugin/settings.log-environment": async | trappable,
        "trainshed:plugin/settings.connect-text": async | trappable,
        "trainshed:plugin/models.save": async | trappable,
        "trainshed:plugin/models.save-with-program": async | trappable,
        "trainshed:plugin/models.snapshot": async | trappable,
        "trainshed:plugin/models.save-folder": async | trappable,
        "trainshed:plugin/artifacts.put-json": async | trappable,
        "trainshed:plugin/artifacts.put-table": async | trappable,
        "trainshed:plugin/artifacts.put-tensors": async | trappable,
        "trainshed:plugin/artifacts.put-image": async | trappable,
        "trainshed:plugin/artifacts.put-bytes": async | trappable,
        "trainshed:plugin/artifacts.put-file": async | trappable,
        "trainshed:plugin/artifacts.put-folder": async | trappable,
        "trainshed:plugin/artifacts.put-link": async | trappable,
        "trainshed:plugin/artifacts.listing": async | trappable,
        "trainshed:plugin/artifacts.open": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "trainshed:plugin/run.run": crate::imports::run::Run,
        "trainshed:plugin/dataset.dataset": crate::imports::dataset::Dataset,
        "trainshed:plugin/checkpoint.checkpoint": crate::imports::checkpoint::Checkpoint,
        "trainshed:plugin/artifacts.opened": crate::imports::artifacts::Opened,
        "trainshed:plugin/compute.tensor": trainshed_tensor::Tensor,
        "trainshed:plugin/compute.executable": crate::imports::compute::Executable,
        "trainshed:plugin/compute.batches": trainshed_tensor::Batches,
        "trainshed:plugin/compute.session": crate::imports::compute::Session,
    },
});
