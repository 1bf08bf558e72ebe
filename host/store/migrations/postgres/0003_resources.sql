-- What the machines of agents did, one row for each period; `readings` is an object of series and values.
create table resource (
    workspace text not null,
    agent text not null,
    at bigint not null,
    readings text not null,
    primary key (workspace, agent, at),
    foreign key (workspace, agent) references agent (workspace, id)
);
