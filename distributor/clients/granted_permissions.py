"""A table with the keys of a registration -> the app and the permissions in its token, for `doctor`."""

from __future__ import annotations

from distributor.clients import entra
from distributor.clients.app_registration import AppRegistration, registration
from distributor.microsoft.permissions import KEEP_DRAFTS, SEND, GrantedPermissions, RequiredPermission

NEEDS: tuple[RequiredPermission, ...] = (SEND, KEEP_DRAFTS)  # of this transport


async def granted(settings: AppRegistration, root: str, key: str) -> GrantedPermissions:
    """Those of any table; tables of one registration share the token. Raises ServiceUnavailable."""
    who = same(settings)
    return entra.granted(await entra.entra(who, key).token(root), who, root)


def same(settings: AppRegistration) -> AppRegistration:
    """The registration of a table, equal for all tables that share it."""
    return registration(settings)
