-- What a trial goes on from: a model of its own, or of the one that it is a copy of, as it was
-- when the report that named it was taken in. The model itself may have been saved again since,
-- before a report that never came. `metadata` is JSON: pairs of texts.
create table trial_checkpoint (
    workspace text not null,
    task text not null,
    model bigint not null,
    iteration bigint not null,
    sha256 text not null,
    size_bytes bigint not null,
    metadata text not null,
    primary key (workspace, task),
    foreign key (workspace, task) references trial (workspace, task) on delete cascade,
    foreign key (workspace, sha256) references file (workspace, sha256)
);
create index trial_checkpoint_file on trial_checkpoint (workspace, sha256);
