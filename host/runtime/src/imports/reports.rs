//! `reports`: plots, samples and tables of trials.

use serde_json::{Map, Value};
use trainshed_core::Digest;
use trainshed_core::address::is_uri;
use trainshed_core::figure::check_figure;
use trainshed_core::media::{
    MAX_MEDIA_BYTES, UNKNOWN_TYPE, is_media_type, media_type, media_type_of_address, type_names,
};
use trainshed_core::report::{Plot, Purpose, Report, Sample, check_trials};
use wasmtime::component::Resource;

use super::run::{Reported, Run, check_name, invalid, refusal};
use crate::bindings::trainshed::plugin::reports::Host;
use crate::limits::bytes_for_people;
use crate::state::{TaskState, now};
use crate::wasi::not_stored;

impl Host for TaskState {
    async fn plot(
        &mut self,
        _run: Resource<Run>,
        title: String,
        series: String,
        iteration: u64,
        figure: String,
    ) -> Reported {
        let checked = check_name("title", &title)
            .and_then(|()| check_name("series", &series))
            .and_then(|()| check_figure(&figure).map_err(|wrong| invalid("figure", wrong)))
            .and_then(|()| self.take_media(figure.len() as u64));
        if let Err(error) = checked {
            return Ok(Err(error));
        }
        let at = now();
        let plot = Plot {
            title,
            series,
            iteration,
            figure,
            at,
        };
        self.hand_over(Report::Plot(plot)).await
    }

    async fn media(
        &mut self,
        _run: Resource<Run>,
        title: String,
        series: String,
        iteration: u64,
        name: String,
        content_type: Option<String>,
        content: Vec<u8>,
        extra: Option<String>,
    ) -> Reported {
        let checked = check_name("title", &title)
            .and_then(|()| check_name("series", &series))
            .and_then(|()| match name.as_str() {
                "" => Ok(()),
                name => check_name("name", name),
            })
            .and_then(|()| {
                let length = content.len() as u64;
                if length <= MAX_MEDIA_BYTES {
                    return Ok(());
                }
                let most =
                    format!("must have at most {MAX_MEDIA_BYTES} bytes, but it has {length}");
                Err(invalid("content", most))
            })
            .and_then(|()| {
                let found = media_type(content_type.as_deref(), &content);
                found.map_err(|wrong| invalid("content", wrong))
            })
            .and_then(|found| Ok((found, self.checked_extra(extra)?)))
            .and_then(|checked| self.take_media(content.len() as u64).map(|()| checked));
        let ((content_type, suffix), extra) = match checked {
            Ok(checked) => checked,
            Err(error) => return Ok(Err(error)),
        };
        self.upload_sample(
            Sample {
                purpose: Purpose::Media,
                category: title,
                group: series,
                index: iteration,
                name,
                sha256: Some(Digest::of(&content)),
                uri: None,
                size_bytes: content.len() as u64,
                content_type: content_type.to_owned(),
                at: now(),
                extra,
            },
            &content,
            suffix,
        )
        .await
    }

    async fn media_link(
        &mut self,
        _run: Resource<Run>,
        title: String,
        series: String,
        iteration: u64,
        name: String,
        content_type: Option<String>,
        uri: String,
        extra: Option<String>,
    ) -> Reported {
        let checked = check_name("title", &title)
            .and_then(|()| check_name("series", &series))
            .and_then(|()| match name.as_str() {
                "" => Ok(()),
                name => check_name("name", name),
            })
            .and_then(|()| {
                if is_uri(&uri) {
                    return Ok(());
                }
                let wrong = "must be an address that begins with a scheme, e.g. `https://`";
                Err(invalid("uri", wrong.to_owned()))
            })
            .and_then(|()| match content_type {
                None => Ok(media_type_of_address(&uri)
                    .unwrap_or(UNKNOWN_TYPE)
                    .to_owned()),
                Some(known) if is_media_type(&known) => Ok(known),
                Some(_) => {
                    let wrong = format!("must be one of {}", type_names());
                    Err(invalid("content-type", wrong))
                }
            })
            .and_then(|found| Ok((found, self.checked_extra(extra)?)))
            .and_then(|checked| self.take_media(uri.len() as u64).map(|()| checked));
        let (content_type, extra) = match checked {
            Ok(checked) => checked,
            Err(error) => return Ok(Err(error)),
        };
        self.hand_over(Report::Sample(Sample {
            purpose: Purpose::Media,
            category: title,
            group: series,
            index: iteration,
            name,
            sha256: None,
            uri: Some(uri),
            size_bytes: 0,
            content_type,
            at: now(),
            extra,
        }))
        .await
    }

    async fn trials(&mut self, _run: Resource<Run>, payload: String) -> Reported {
        let parsed = serde_json::from_str::<Map<String, Value>>(&payload);
        let checked = parsed
            .map_err(|_| "log_trials expects a dictionary payload".to_owned())
            .and_then(|parsed| check_trials(&parsed).map(|()| parsed))
            .map_err(|wrong| invalid("payload", wrong))
            .and_then(|parsed| self.take_points(1).map(|()| parsed));
        match checked {
            Ok(payload) => self.hand_over(Report::Trials { payload }).await,
            Err(error) => Ok(Err(error)),
        }
    }
}

impl TaskState {
    /// Uploads the content of a sample, and then reports it.
    pub(super) async fn upload_sample(
        &mut self,
        sample: Sample,
        content: &[u8],
        suffix: &str,
    ) -> Reported {
        let sha256 = Digest::of(content);
        let file = self.facts.outgoing.join(format!("{sha256}.{suffix}"));
        std::fs::write(&file, content).map_err(|error| not_stored(&error.to_string()))?;
        let uploaded = self.services.upload(&file, sha256, sample.size_bytes).await;
        if let Err(refused) = uploaded {
            return refusal(refused);
        }
        self.hand_over(Report::Sample(sample)).await
    }

    /// Takes `bytes` of the quota of plots and samples.
    pub(super) fn take_media(
        &mut self,
        bytes: u64,
    ) -> Result<(), crate::bindings::trainshed::plugin::run::ReportError> {
        if self.media.take(bytes) {
            return Ok(());
        }
        let limit = bytes_for_people(self.media.limit());
        Err(self.quota_exceeded("media bytes", &limit))
    }
}
