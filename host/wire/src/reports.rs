//! The binary body of an agent's reports: `docs/points.md`.

use trainshed_core::report::Batch;
use trainshed_series::{BadBatch, Frame};

/// The media type of the body.
pub const REPORTS_TYPE: &str = "application/vnd.trainshed.reports";

const MAGIC: &[u8; 4] = b"TSR1";

/// A batch as bytes: what is no point as JSON, points as encoded frames.
///
/// # Panics
/// When a part has 4 GiB, which no agent makes.
pub fn encode_reports(batch: &Batch, frames: &[Vec<u8>]) -> Vec<u8> {
    let json = serde_json::to_vec(batch).expect("reports are texts and numbers");
    let mut bytes = Vec::with_capacity(8 + json.len() + frames.iter().map(Vec::len).sum::<usize>());
    bytes.extend_from_slice(MAGIC);
    for part in std::iter::once(&json).chain(frames) {
        let length = u32::try_from(part.len()).expect("a part is much smaller than 4 GiB");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Reads a body with reports: binary when its media type is [`REPORTS_TYPE`], otherwise JSON.
///
/// # Errors
/// What is wrong with it, and where.
pub fn read_reports<'a>(
    media_type: &str,
    body: &'a [u8],
) -> Result<(Batch, Vec<Frame<'a>>), BadBatch> {
    let bad = |message: String| BadBatch {
        pointer: String::new(),
        message,
    };
    let json =
        |text: &[u8]| serde_json::from_slice::<Batch>(text).map_err(|error| error.to_string());
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(REPORTS_TYPE) {
        return Ok((json(body).map_err(bad)?, Vec::new()));
    }
    let Some(mut rest) = body.strip_prefix(MAGIC) else {
        return Err(bad("the body must begin with `TSR1`".to_owned()));
    };
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let cut = rest.split_first_chunk::<4>().and_then(|(length, after)| {
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            after.split_at_checked(length)
        });
        let at = body.len() - rest.len();
        let (part, after) = cut.ok_or_else(|| bad(format!("the part at byte {at} breaks off")))?;
        parts.push(part);
        rest = after;
    }
    let Some((first, frames)) = parts.split_first() else {
        return Err(bad("the body must have a batch as JSON".to_owned()));
    };
    let frame = |bytes: &&'a [u8]| Frame::decode(bytes).map_err(|error| bad(error.to_string()));
    let frames = frames.iter().map(frame).collect::<Result<_, _>>()?;
    Ok((json(first).map_err(bad)?, frames))
}

#[cfg(test)]
mod tests {
    use trainshed_core::report::Report;
    use trainshed_series::FrameBuilder;

    use super::*;

    #[test]
    fn a_body_comes_back_and_no_part_of_it_may_be_missing() {
        let batch = Batch {
            key: 7,
            reports: vec![Report::Output { name: "m".into() }],
        };
        let mut points = FrameBuilder::default();
        points.push(("train".into(), "loss".into()), 3, 5, f64::NAN, None);
        let frames = vec![points.finish().encode(); 2];
        let body = encode_reports(&batch, &frames);
        let (found, points) = read_reports(REPORTS_TYPE, &body).unwrap();
        assert_eq!(found, batch);
        let counts: Vec<usize> = points.iter().map(Frame::point_count).collect();
        assert_eq!(counts, [1, 1]);
        // Cut off at the end of a part, it is a body with fewer of them.
        let ends = [frames[0].len() + 4, 2 * (frames[0].len() + 4)].map(|cut| body.len() - cut);
        for length in 0..body.len() {
            let is_whole = ends.contains(&length);
            let read = read_reports(REPORTS_TYPE, &body[..length]);
            assert_eq!(read.is_ok(), is_whole, "{length} of {}", body.len());
        }
        let json = serde_json::to_vec(&batch).unwrap();
        assert_eq!(read_reports("application/json", &json).unwrap().0, batch);
    }
}
