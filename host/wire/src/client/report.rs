//! Calls about what tasks report.

use reqwest::{Method, header};
use trainshed_core::report::NewReports;
use trainshed_core::view::{ConsolePage, Page, PlotView};

use super::{Client, Result, part};
use crate::{
    ConsoleFilter, Curve, Frame, Metrics, POINTS_TYPE, Recorded, ReportedAll, SampledCurve,
    Samples, ShownFilter,
};

#[expect(
    clippy::missing_errors_doc,
    reason = "every call fails as `ClientError` says, and as the server's page of the API says"
)]
impl Client {
    /// Curves and single values of a task.
    pub async fn metrics(&self, id: &str) -> Result<Metrics> {
        self.get(&format!("/tasks/{}/scalars", part(id))).await
    }

    /// The points of one curve, from the iteration `from` on; the answer says where to go on.
    pub async fn curve(&self, id: &str, title: &str, series: &str, from: u64) -> Result<Curve> {
        let path = format!("/tasks/{}/scalars/points", part(id));
        let request = self.request(Method::GET, &path);
        let from = from.to_string();
        self.json(request.query(&[("title", title), ("series", series), ("from", &from)]))
            .await
    }

    /// At most `most` samples of one curve; `x` is `iter`, `timestamp` or `iso_time`.
    pub async fn sampled_curve(
        &self,
        id: &str,
        (title, series): (&str, &str),
        most: u32,
        x: &str,
    ) -> Result<SampledCurve> {
        let path = format!("/tasks/{}/scalars/points", part(id));
        let most = most.to_string();
        let query = [
            ("title", title),
            ("series", series),
            ("max_samples", &most),
            ("x", x),
        ];
        self.json(self.request(Method::GET, &path).query(&query))
            .await
    }

    /// Records points of a task; under a key, sending them again is harmless.
    pub async fn append_points(
        &self,
        id: &str,
        key: Option<&str>,
        points: &Frame<'_>,
    ) -> Result<Recorded> {
        let mut request = self
            .request(Method::POST, &format!("/tasks/{}/metrics", part(id)))
            .header(header::CONTENT_TYPE, POINTS_TYPE);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.json(request.body(points.encode())).await
    }

    /// At most `limit` console lines from line `after` on.
    pub async fn console(&self, id: &str, after: u64, limit: u64) -> Result<ConsolePage> {
        let path = format!("/tasks/{}/console", part(id));
        self.json(
            self.request(Method::GET, &path)
                .query(&[("after", after), ("limit", limit)]),
        )
        .await
    }

    /// Lines of the console of a task from either end, all or those that are looked for.
    pub async fn console_by(&self, id: &str, filter: &ConsoleFilter) -> Result<ConsolePage> {
        let path = format!("/tasks/{}/console", part(id));
        self.json(self.request(Method::GET, &path).query(filter))
            .await
    }

    /// The first samples of a task.
    pub async fn samples(&self, id: &str) -> Result<Samples> {
        self.samples_by(id, &ShownFilter::default()).await
    }

    /// A page of the samples of a task.
    pub async fn samples_by(&self, id: &str, filter: &ShownFilter) -> Result<Samples> {
        let path = format!("/tasks/{}/samples", part(id));
        self.json(self.request(Method::GET, &path).query(filter))
            .await
    }

    /// A page of the plots of a task, with their figures where they are asked for.
    pub async fn plots_by(
        &self,
        id: &str,
        filter: &ShownFilter,
        figures: bool,
    ) -> Result<Page<PlotView>> {
        let request = self.request(Method::GET, &format!("/tasks/{}/plots", part(id)));
        self.json(request.query(filter).query(&[("figures", figures)]))
            .await
    }

    /// Records lines, plots, samples and single values of a task that the caller runs; under a
    /// key, sending them again is harmless.
    pub async fn append_reports(&self, id: &str, reports: &NewReports) -> Result<ReportedAll> {
        let path = format!("/tasks/{}/reports", part(id));
        self.send(Method::POST, &path, reports).await
    }
}
