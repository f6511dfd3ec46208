"""Checks of a database that a server keeps, such as PostgreSQL, without importing MLflow."""

from __future__ import annotations

from enum import Enum

from gan_bench.errors import UserError
from gan_bench.tracking.store.address import reason, without_password
from gan_bench.tracking.store.database import check_version

CONNECT = 20  # seconds
# The package that pip installs for a module.
PACKAGES = {"psycopg2": "psycopg2-binary", "psycopg": "psycopg[binary]", "MySQLdb": "mysqlclient"}


class UnreachableError(UserError):
    """A database does not answer; it may come back."""


class Tables(Enum):
    """Whether MLflow's tables are in a database."""

    ABSENT = 0  # or another process is just making them
    WHOLE = 1


def check_connection(uri: str) -> None:
    """Check that the database answers; MLflow itself would try for two minutes.

    Raises:
        UnreachableError: It does not answer.
        UserError: Its driver is not installed, or the address is invalid.
    """
    import sqlalchemy
    from sqlalchemy.exc import OperationalError

    shown = without_password(uri)
    try:
        dialect = sqlalchemy.make_url(uri).get_backend_name()
        limit = {"connect_timeout": CONNECT} if dialect in ("postgresql", "mysql") else {}
        engine = sqlalchemy.create_engine(uri, connect_args=limit)
    except ModuleNotFoundError as error:
        package = PACKAGES.get(str(error.name), error.name)
        raise UserError(f"{shown} needs the Python package {package}: `pip install "
                        f"'{package}'`") from None
    except Exception as error:
        raise UserError(f"MLflow cannot use {shown}: {reason(error, uri)}; give another "
                        f"--tracking-uri or MLFLOW_TRACKING_URI, or neither") from error
    try:
        with engine.connect():
            pass
    except OperationalError as error:
        raise UnreachableError(f"the database {shown} does not answer: {reason(error, uri)}"
                               ) from error
    except Exception as error:
        raise UserError(f"MLflow cannot use {shown}: {reason(error, uri)}; give another "
                        f"--tracking-uri or MLFLOW_TRACKING_URI, or neither") from error
    finally:
        engine.dispose()


def tables_of(uri: str) -> Tables | None:
    """Return whether the database has MLflow's tables; None if it cannot be read.

    Raises:
        UserError: It is from a newer or an older MLflow.
    """
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.connect() as connection:
            if not sqlalchemy.inspect(connection).has_table("alembic_version"):
                return Tables.ABSENT
            query = sqlalchemy.text("select version_num from alembic_version")
            version = connection.execute(query).scalar()
    except sqlalchemy.exc.SQLAlchemyError:
        return None
    finally:
        engine.dispose()
    if version is None:
        return Tables.ABSENT
    check_version(uri, str(version))
    return Tables.WHOLE
