-- Points are logged as they come in and kept as chunks; batches are known by rows of their
-- own, so that a log row can go as soon as its points are in chunks.

-- `fence` is that of the lease under which the batch was reported; -1 for one of a client.
create table batch_key (
    workspace text not null,
    task text not null,
    fence bigint not null,
    key text not null,
    at bigint not null,
    primary key (workspace, task, fence, key),
    foreign key (workspace, task) references task (workspace, id) on delete cascade
) without rowid;

create index batch_key_at on batch_key (at);

insert into batch_key (workspace, task, fence, key, at)
    select workspace, task, fence, cast(batch_key as text), at from ingest;

-- How far the log of a task is in the summaries (`series`), and how far it is in chunks;
-- `deleted` counts how often its points were deleted.
create table point_state (
    workspace text not null,
    task text not null,
    summarized bigint not null,
    compacted bigint not null,
    deleted bigint not null,
    primary key (workspace, task),
    foreign key (workspace, task) references task (workspace, id) on delete cascade
);

create table point_log (
    seq integer primary key autoincrement,
    workspace text not null,
    task text not null,
    at bigint not null,
    point_count bigint not null,
    frame blob not null,
    foreign key (workspace, task) references task (workspace, id) on delete cascade
);

create index point_log_task on point_log (workspace, task, seq);

insert into point_log (seq, workspace, task, at, point_count, frame)
    select seq, workspace, task, at, point_count, frame from ingest where point_count > 0;

insert into point_state (workspace, task, summarized, compacted, deleted)
    select workspace, task, max(seq), 0, 0 from point_log group by workspace, task;

drop table ingest;

-- Settled points of one curve. Chunks of a curve have no steps between each other's first and
-- last. `buckets` comes before `content`, so that reading it does not read the points.
create table chunk (
    id integer primary key autoincrement,
    workspace text not null,
    task text not null,
    title text not null,
    series text not null,
    first_step bigint not null,
    last_step bigint not null,
    point_count bigint not null,
    buckets blob not null,
    content blob not null,
    foreign key (workspace, task) references task (workspace, id) on delete cascade
);

create index chunk_curve on chunk (workspace, task, title, series, first_step);
