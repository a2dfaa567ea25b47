/* What crypt32 makes of a serialized certificate store: opened in two ways that take nothing else, each certificate's SHA-1 a line, then
   saved again. sst_oracle.exe IN [OUT] */
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>
#include <wincrypt.h>

static int list(const char *way, HCERTSTORE store)
{
    PCCERT_CONTEXT one = NULL;
    PCCRL_CONTEXT crl = NULL;
    BYTE hash[20];
    DWORD size, at;

    if (!store) {
        printf("%s refused %08lx\n", way, (unsigned long)GetLastError());
        return 0;
    }
    while ((one = CertEnumCertificatesInStore(store, one))) {
        size = sizeof hash;
        if (!CertGetCertificateContextProperty(one, CERT_SHA1_HASH_PROP_ID, hash, &size)) return 0;
        printf("%s certificate ", way);
        for (at = 0; at < size; at++) printf("%02x", hash[at]);
        printf("\n");
    }
    while ((crl = CertEnumCRLsInStore(store, crl))) printf("%s crl\n", way);
    return 1;
}

int main(int count, char **arguments)
{
    static BYTE data[1 << 22];
    DWORD kind = 0;
    HCERTSTORE store = NULL;
    CRYPT_DATA_BLOB blob;
    FILE *file = count > 1 ? fopen(arguments[1], "rb") : NULL;

    if (!file) return 2;
    blob.cbData = (DWORD)fread(data, 1, sizeof data, file);
    blob.pbData = data;
    fclose(file);
    list("serialized", CertOpenStore(CERT_STORE_PROV_SERIALIZED, 0, 0, CERT_STORE_READONLY_FLAG, &blob));
    if (!CryptQueryObject(CERT_QUERY_OBJECT_BLOB, &blob, CERT_QUERY_CONTENT_FLAG_ALL, CERT_QUERY_FORMAT_FLAG_BINARY, 0, NULL, &kind, NULL,
                          &store, NULL, NULL))
        store = NULL;
    printf("query kind %lu\n", (unsigned long)kind);
    list("query", store);
    if (count > 2 && store
        && !CertSaveStore(store, PKCS_7_ASN_ENCODING | X509_ASN_ENCODING, CERT_STORE_SAVE_AS_STORE, CERT_STORE_SAVE_TO_FILENAME_A,
                          arguments[2], 0))
        return 1;
    return 0;
}
