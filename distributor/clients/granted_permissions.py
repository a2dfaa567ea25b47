"""A table with the keys of a registration -> who the app is and what its token shows, for `doctor` (core.rights judges)."""

from __future__ import annotations

from distributor.clients import entra
from distributor.clients.app_registration import AppRegistration, registration
from distributor.microsoft.permissions import KEEP_DRAFTS, SEND, GrantedPermissions, RequiredPermission

NEEDS: tuple[RequiredPermission, ...] = (SEND, KEEP_DRAFTS)  # of this transport


async def granted(settings: AppRegistration, root: str, key: str) -> GrantedPermissions:
    """Of whatever table; the token is the one that the registration's other tables have. Raises Unavailable."""
    who = same(settings)
    return entra.granted(await entra.entra(who, key).token(root), who, root)


def same(settings: AppRegistration) -> AppRegistration:
    """What tables that share a registration have in common."""
    return registration(settings)
