-- Tracking: drafts and tasks that no plugin runs, configuration, plots, links, lineage.
-- Foreign keys are off while migrations run, so that tables can be built anew.

alter table project add column description text not null default '';
alter table project add column tags text not null default '[]';
alter table project add column system_tags text not null default '[]';
alter table project add column default_output text;
alter table project add column last_update bigint not null default 0;
update project set last_update = created;

create table queue (
    workspace text not null references workspace (id),
    id text not null,
    name text not null,
    created bigint not null,
    primary key (workspace, id),
    unique (workspace, name)
);
insert into queue (workspace, id, name, created)
    select id, lower(hex(randomblob(16))), 'default', created from workspace;

-- `location` is where the content lies when that is not the server's own store: the address
-- of an object that was imported without a copy, or of the task's output destination.
alter table file add column location text;

-- Which data folder's server started the agent; empty for agents of other machines.
alter table agent add column home text not null default '';

-- `initial_iteration` is added to every iteration that a run reports: a task that is
-- continued goes on where it ended. `queue` is where it waits or last waited. A draft that
-- no plugin runs has neither plugin nor data set.
create table task_new (
    workspace text not null references workspace (id),
    id text not null,
    project text not null,
    name text not null,
    encoded_name text not null,
    type text not null,
    parent text,
    creator text not null,
    state text not null,
    state_reason text not null,
    state_message text not null,
    state_changed bigint not null,
    comment text not null,
    tags text not null,
    system_tags text not null,
    action text not null,
    params text not null,
    settings text not null,
    plugin_digest text,
    plugin_name text,
    plugin_version text,
    dataset bigint references dataset (id),
    checkpoint bigint references model (id),
    seed text,
    limits text not null,
    script text,
    container text,
    runtime text not null,
    record text not null,
    output_destination text,
    result text,
    progress text not null,
    output_model text,
    initial_iteration bigint not null,
    last_iteration bigint not null,
    created bigint not null,
    queue text,
    queued bigint,
    started bigint,
    ended bigint,
    published bigint,
    last_update bigint not null,
    stop_requested bigint,
    stop_reason text,
    agent text,
    fence bigint not null,
    ended_fence bigint,
    lease_until bigint,
    attempts bigint not null,
    primary key (workspace, id),
    foreign key (workspace, project) references project (workspace, id),
    foreign key (workspace, queue) references queue (workspace, id)
);
insert into task_new
    select task.workspace, task.id, project, name, encoded_name, type, null, '', state,
           state_reason, '', coalesce(ended, started, queued, created), comment, tags, '[]',
           action, params, settings, plugin_digest, plugin_name, plugin_version, dataset,
           checkpoint, seed, limits, null, null, '{}', '{}', null, result, progress,
           output_model, 0, last_iteration, created,
           case when state = 'queued' then (select queue.id from queue
                                             where queue.workspace = task.workspace) end,
           queued, started, ended, null, last_update, stop_requested, stop_reason, agent, fence,
           ended_fence, lease_until, attempts
      from task;
drop table task;
alter table task_new rename to task;
create index task_newest on task (workspace, created, id);
create index task_queue on task (state, workspace, queued, id);
create index task_project on task (workspace, project, created, id);
create index task_parent on task (workspace, parent);
-- Actions refuse the name of one that waits or runs; drafts and clones may share names.
create index task_name on task (workspace, name, last_update);
create unique index task_active_name on task (workspace, encoded_name)
    where state in ('queued', 'in_progress') and action <> '';

-- The tags of tasks, models, data sets and projects once more, to find them by.
-- kind: task, model, dataset or project; owner: its id as text; is_system: 0 or 1.
create table tag (
    workspace text not null references workspace (id),
    kind text not null,
    is_system bigint not null,
    tag text not null,
    owner text not null,
    primary key (workspace, kind, is_system, tag, owner)
);
create index tag_owner on tag (workspace, kind, owner);
insert into tag
    select distinct task.workspace, 'task', 0, tags.value, task.id
      from task, json_each(task.tags) as tags;

alter table parameter add column description text not null default '';

-- Configuration objects: kept byte for byte.
create table configuration (
    workspace text not null,
    task text not null,
    name text not null,
    type text not null,
    description text not null,
    content blob not null,
    last_update bigint not null,
    primary key (workspace, task, name),
    foreign key (workspace, task) references task (workspace, id)
);

-- `body` is the compressed JSON of a figure; a large one is a file instead.
create table plot (
    workspace text not null,
    task text not null,
    title text not null,
    series text not null,
    iteration bigint not null,
    at bigint not null,
    kind text not null,
    body blob,
    sha256 text,
    size_bytes bigint not null,
    primary key (workspace, task, title, series, iteration),
    foreign key (workspace, task) references task (workspace, id),
    foreign key (workspace, sha256) references file (workspace, sha256)
);

-- kind: visualization (every place is kept) or media (the last iterations are kept).
-- A sample is a stored file, or an address elsewhere.
create table sample_new (
    workspace text not null,
    task text not null,
    kind text not null,
    category text not null,
    sample_group text not null,
    position bigint not null,
    name text not null,
    sha256 text,
    uri text,
    size_bytes bigint not null,
    content_type text not null,
    at bigint not null,
    extra text,
    primary key (workspace, task, kind, category, sample_group, position, name),
    foreign key (workspace, task) references task (workspace, id),
    foreign key (workspace, sha256) references file (workspace, sha256)
);
insert into sample_new
    select workspace, task, 'visualization', category, sample_group, position, '', sha256, null,
           size_bytes, content_type, at, extra
      from sample;
drop table sample;
alter table sample_new rename to sample;

-- mode: input or output. A former version of an artifact keeps its row, with the time of
-- its replacement.
create table artifact_new (
    workspace text not null,
    task text not null,
    name text not null,
    mode text not null,
    version bigint not null,
    type text not null,
    sha256 text,
    uri text,
    size_bytes bigint not null,
    content_type text not null,
    preview text not null,
    display text not null,
    created bigint not null,
    replaced bigint,
    primary key (workspace, task, name, mode, version),
    foreign key (workspace, task) references task (workspace, id),
    foreign key (workspace, sha256) references file (workspace, sha256)
);
insert into artifact_new
    select workspace, task, name, 'output', 1, 'file', sha256, null, size_bytes, content_type, '',
           '[]', created, null
      from artifact;
drop table artifact;
alter table artifact_new rename to artifact;

-- `slot` is the name under which a plugin saves a model; saving again replaces it. Models
-- that are registered otherwise have none. `ready` is when it was published.
create table model_new (
    id integer primary key autoincrement,
    workspace text not null references workspace (id),
    uuid text not null,
    task text,
    slot text,
    project text,
    creator text not null,
    name text not null,
    comment text not null,
    parent bigint,
    iteration bigint not null,
    sha256 text,
    uri text,
    size_bytes bigint not null,
    framework text not null,
    design text not null,
    labels text not null,
    tags text not null,
    system_tags text not null,
    state text not null,
    ready bigint,
    created bigint not null,
    last_update bigint not null,
    unique (workspace, uuid),
    unique (workspace, task, slot),
    foreign key (workspace, sha256) references file (workspace, sha256)
);
insert into model_new
    select id, workspace, uuid, task, name,
           (select task.project from task
             where task.workspace = model.workspace and task.id = model.task),
           '', name, '', parent, iteration, sha256, null, size_bytes, 'trainshed', '', labels,
           '[]', '[]', state, null, created, created
      from model;

create table model_metadata (
    workspace text not null,
    model bigint not null references model (id) on delete cascade,
    key text not null,
    type text not null,
    value text not null,
    primary key (workspace, model, key)
);
insert into model_metadata
    select model.workspace, model.id, json_extract(pairs.value, '$[0]'), 'str',
           json_extract(pairs.value, '$[1]')
      from model, json_each(model.metadata) as pairs where true
    on conflict do nothing;
drop table model;
alter table model_new rename to model;
create index model_newest on model (workspace, created, id);
create index model_parent on model (workspace, parent);

-- Which models a task read and made. role: input or output.
create table task_model (
    workspace text not null,
    task text not null,
    role text not null,
    name text not null,
    model bigint not null references model (id),
    position bigint not null,
    primary key (workspace, task, role, name),
    foreign key (workspace, task) references task (workspace, id)
);
create index task_model_model on task_model (workspace, model);
insert into task_model
    select workspace, task, 'output', slot, id, id from model where state = 'visible';
insert into task_model
    select workspace, id, 'input', 'checkpoint', checkpoint, 0
      from task where checkpoint is not null;

alter table dataset add column project text;
alter table dataset add column creator text not null default '';
alter table dataset add column tags text not null default '[]';
alter table dataset add column system_tags text not null default '[]';
alter table dataset add column published bigint;
alter table dataset add column schema text;
alter table dataset add column statistics text;
alter table dataset add column preview text;
alter table dataset add column last_update bigint not null default 0;
update dataset set last_update = created;

-- Answers to requests that carry a key, so that a request that is sent again is answered
-- again and not done again.
create table idempotency (
    workspace text not null references workspace (id),
    key text not null,
    request text not null,
    status bigint not null,
    headers text not null,
    body blob not null,
    created bigint not null,
    primary key (workspace, key)
);
