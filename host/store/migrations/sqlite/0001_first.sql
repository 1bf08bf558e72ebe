-- The first schema. Column types are those that SQLite and PostgreSQL share; times are
-- milliseconds since the Unix epoch; JSON is text. `workspace` is in every key.

create table workspace (
    id text not null primary key,
    name text not null unique,
    created bigint not null
);

create table api_key (
    sha256 text not null primary key,
    workspace text not null references workspace (id),
    created bigint not null
);

create table project (
    workspace text not null references workspace (id),
    id text not null,
    path text not null,
    created bigint not null,
    primary key (workspace, id),
    unique (workspace, path)
);

-- Which workspace has uploaded which content. The content itself lies in the file store.
create table file (
    workspace text not null references workspace (id),
    sha256 text not null,
    size_bytes bigint not null,
    created bigint not null,
    primary key (workspace, sha256)
);

create table plugin (
    workspace text not null,
    digest text not null,
    name text not null,
    version text not null,
    manifest text not null,
    size_bytes bigint not null,
    created bigint not null,
    primary key (workspace, digest),
    unique (workspace, name, version),
    foreign key (workspace, digest) references file (workspace, sha256)
);

-- One row is one version. `uuid` is the data set's and the same for all its versions.
-- state: staged (of a running task) or visible.
create table dataset (
    id integer primary key autoincrement,
    workspace text not null references workspace (id),
    uuid text not null,
    name text not null,
    number bigint not null,
    parent bigint,
    task text,
    digest text not null,
    description text not null,
    file_count bigint not null,
    size_bytes bigint not null,
    state text not null,
    created bigint not null,
    unique (workspace, name, number),
    unique (workspace, task)
);

create table dataset_file (
    workspace text not null,
    dataset bigint not null references dataset (id) on delete cascade,
    path text not null,
    sha256 text not null,
    size_bytes bigint not null,
    primary key (workspace, dataset, path),
    foreign key (workspace, sha256) references file (workspace, sha256)
);

-- state: staged (of a running task) or visible.
create table model (
    id integer primary key autoincrement,
    workspace text not null references workspace (id),
    uuid text not null,
    task text not null,
    name text not null,
    parent bigint,
    iteration bigint not null,
    sha256 text not null,
    size_bytes bigint not null,
    labels text not null,
    metadata text not null,
    state text not null,
    created bigint not null,
    unique (workspace, task, name),
    foreign key (workspace, sha256) references file (workspace, sha256)
);

create table agent (
    workspace text not null references workspace (id),
    id text not null,
    name text not null,
    is_local bigint not null,
    last_seen bigint not null,
    primary key (workspace, id)
);

-- `fence` grows with each lease of a task, and when one is taken away; a write that carries
-- another one is refused. `ended_fence` is the lease under which its agent ended the task.
create table task (
    workspace text not null references workspace (id),
    id text not null,
    project text not null,
    name text not null,
    encoded_name text not null,
    type text not null,
    state text not null,
    state_reason text not null,
    comment text not null,
    tags text not null,
    action text not null,
    params text not null,
    settings text not null,
    plugin_digest text not null,
    plugin_name text not null,
    plugin_version text not null,
    dataset bigint not null references dataset (id),
    checkpoint bigint references model (id),
    seed text not null,
    limits text not null,
    result text,
    progress text not null,
    output_model text,
    last_iteration bigint not null,
    created bigint not null,
    queued bigint,
    started bigint,
    ended bigint,
    last_update bigint not null,
    stop_requested bigint,
    stop_reason text,
    agent text,
    fence bigint not null,
    ended_fence bigint,
    lease_until bigint,
    attempts bigint not null,
    primary key (workspace, id),
    foreign key (workspace, project) references project (workspace, id)
);

create index task_newest on task (workspace, created, id);
create index task_queue on task (state, workspace, queued, id);
create unique index task_active_name on task (workspace, encoded_name)
    where state in ('queued', 'in_progress');

create table parameter (
    workspace text not null,
    task text not null,
    section text not null,
    name text not null,
    type text not null,
    value text not null,
    primary key (workspace, task, section, name),
    foreign key (workspace, task) references task (workspace, id)
);

-- One row for each batch of reports, with its points as one frame. The row is also how a
-- batch that is sent again is known.
create table ingest (
    seq integer primary key autoincrement,
    workspace text not null,
    task text not null,
    fence bigint not null,
    batch_key bigint not null,
    at bigint not null,
    point_count bigint not null,
    frame blob not null,
    unique (workspace, task, fence, batch_key),
    foreign key (workspace, task) references task (workspace, id)
);

-- The summary of a curve. A value is null where it is not a number.
create table series (
    workspace text not null,
    task text not null,
    title text not null,
    series text not null,
    point_count bigint not null,
    last_value double precision,
    last_iteration bigint not null,
    min_value double precision,
    min_iteration bigint not null,
    max_value double precision,
    max_iteration bigint not null,
    primary key (workspace, task, title, series),
    foreign key (workspace, task) references task (workspace, id)
);

create table single (
    workspace text not null,
    task text not null,
    name text not null,
    value double precision,
    primary key (workspace, task, name),
    foreign key (workspace, task) references task (workspace, id)
);

-- One row for the lines of one batch, as a JSON list.
create table console (
    workspace text not null,
    task text not null,
    first_line bigint not null,
    line_count bigint not null,
    lines text not null,
    primary key (workspace, task, first_line),
    foreign key (workspace, task) references task (workspace, id)
);

create table sample (
    workspace text not null,
    task text not null,
    category text not null,
    sample_group text not null,
    position bigint not null,
    sha256 text not null,
    size_bytes bigint not null,
    content_type text not null,
    at bigint not null,
    extra text,
    primary key (workspace, task, category, sample_group, position),
    foreign key (workspace, task) references task (workspace, id),
    foreign key (workspace, sha256) references file (workspace, sha256)
);

-- Files that users attach to tasks.
create table artifact (
    workspace text not null,
    task text not null,
    name text not null,
    sha256 text not null,
    size_bytes bigint not null,
    content_type text not null,
    created bigint not null,
    primary key (workspace, task, name),
    foreign key (workspace, task) references task (workspace, id),
    foreign key (workspace, sha256) references file (workspace, sha256)
);
