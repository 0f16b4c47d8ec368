"""All principals that something is known of."""

from tests.conftest import Tide

from tidegate.govern.principals import Principal, list_principals, set_attributes


def test_roles_that_are_gone_are_told_from_those_that_are_there(tide: Tide) -> None:
    assert list_principals(tide.admin) == []
    tide.admin.execute("CREATE ROLE listed_login LOGIN; CREATE ROLE listed_group; CREATE ROLE listed_gone LOGIN")
    try:
        set_attributes(tide.admin, "listed_login", {"regions": ["EU", "U,S"], "clearance": ["2"]})
        set_attributes(tide.admin, "listed_group", {"tenant": []})
        set_attributes(tide.admin, "listed_gone", {"regions": ["EU"]})
        # Another role of the same name has nothing of it.
        tide.admin.execute("DROP ROLE listed_gone; CREATE ROLE listed_gone LOGIN")
        found = list_principals(tide.admin)
        assert found == [
            Principal("listed_gone", "gone", {"regions": ["EU"]}),
            Principal("listed_group", "group", {"tenant": []}),
            Principal("listed_login", "login", {"clearance": ["2"], "regions": ["EU", "U,S"]}),
        ]
        assert [one.sentence for one in found] == [
            "listed_gone (its role is gone, nobody has these): regions=EU",
            "listed_group (group): tenant=",
            "listed_login (login): clearance=2 regions=EU,U\\,S",
        ]
    finally:
        tide.admin.execute("DROP ROLE listed_login, listed_group, listed_gone")
