//! Curves: their points as columns, as bytes, in summaries and in samples.
//!
//! | what | where | for |
//! |---|---|---|
//! | [`Points`] | memory | the points of one curve, or of several one after the other |
//! | [`Frame`] | the wire and the ingest log | a batch of points of many curves, cheap to write |
//! | [`chunk`] | the database | up to 4096 settled points of one curve, small and fast to read |
//! | [`Bucket`] | the database | what many points have in common, for charts of long curves |
//! | [`sample`] | answers | at most so many places of a curve |
//!
//! A curve is a map from step to value and time: of several points with one step, the one
//! that was reported last holds. Points that obey this, in the order of their steps, are
//! called *settled*.
//!
//! Everything here is pure: no clock, no database, no network. Bytes that are decoded may
//! come from anybody; they are never trusted in what they say of their own size. Start
//! reading at [`Points`].
#![warn(missing_docs)]

mod batch;
mod bucket;
pub mod chunk;
mod frame;
mod points;
mod sample;
mod summary;
mod varint;

pub use batch::{BadBatch, Batch, MAX_SINGLES, parse_batch};
pub use bucket::{
    BUCKET_POINTS, Bucket, FANOUT, buckets_of, decode_buckets, encode_buckets, fold_buckets,
};
pub use frame::{
    Curve, DamagedFrame, Frame, FrameBuilder, MAX_EXTRA_BYTES, MAX_FRAME_CURVES, MAX_FRAME_POINTS,
    MAX_STEP,
};
pub use points::{Point, Points, PointsView};
pub use sample::{
    Axis, MAX_SAMPLES, Sampled, Sampling, UnknownAxis, sample_buckets, sample_points,
};
pub use summary::Summary;
