-- Experiments of tune actions: a log of events, and a task for each trial.

-- One row is one experiment. `run` is drawn anew when its task is run again. `seq` is that of its
-- last event. `ready` is 1 while a trial waits for an agent.
create table experiment (
    workspace text not null,
    task text not null,
    run text not null,
    seq bigint not null,
    ready bigint not null,
    primary key (workspace, task),
    foreign key (workspace, task) references task (workspace, id) on delete cascade
);
create index experiment_ready on experiment (ready, workspace);

-- Only ever appended to. `event` is JSON.
create table experiment_event (
    workspace text not null,
    task text not null,
    seq bigint not null,
    event text not null,
    primary key (workspace, task, seq),
    foreign key (workspace, task) references experiment (workspace, task) on delete cascade
) without rowid;

-- Which task is which trial. `state` is that of the last attempt: running, paused (an agent
-- holds it and waits), lost (its agent is gone, which the log does not know yet) or ended.
-- `model` is what the task made.
create table trial (
    workspace text not null,
    task text not null,
    experiment text not null,
    number bigint not null,
    attempt bigint not null,
    state text not null,
    model bigint,
    primary key (workspace, task),
    unique (workspace, experiment, number),
    foreign key (workspace, task) references task (workspace, id) on delete cascade,
    foreign key (workspace, experiment) references experiment (workspace, task) on delete cascade
);
create index trial_state on trial (state);

-- What an agent can give to the trials that it runs at a time: processors and GPUs.
alter table agent add column cpus bigint not null default 0;
alter table agent add column gpus bigint not null default 0;
