import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.Provider;
import java.security.Signature;
import java.security.cert.Certificate;
import java.util.Collections;

/** Opens a PKCS#12 with one provider, signs with its key, verifies with its certificate, prints what is in it. */
public class Open {
    public static void main(String[] arguments) throws Exception {
        String provider = arguments[0];
        char[] password = new String(System.in.readAllBytes()).trim().toCharArray();
        KeyStore store = provider.equals("BC") ? KeyStore.getInstance("PKCS12", bouncyCastle()) : KeyStore.getInstance("PKCS12", provider);
        try (FileInputStream file = new FileInputStream(arguments[1])) {
            store.load(file, password);
        }
        for (String alias : Collections.list(store.aliases())) {
            if (!store.isKeyEntry(alias)) {
                continue;
            }
            PrivateKey key = (PrivateKey) store.getKey(alias, password);
            Certificate leaf = store.getCertificate(alias);
            String algorithm = key.getAlgorithm().equals("RSA") ? "SHA256withRSA" : "SHA256withECDSA";
            byte[] text = "proof".getBytes();
            Signature signing = Signature.getInstance(algorithm);
            signing.initSign(key);
            signing.update(text);
            byte[] signed = signing.sign();
            Signature checking = Signature.getInstance(algorithm);
            checking.initVerify(leaf.getPublicKey());
            checking.update(text);
            System.out.println(alias + "|" + store.getCertificateChain(alias).length + "|" + checking.verify(signed));
        }
    }

    private static Provider bouncyCastle() throws Exception {
        Provider provider = (Provider) Class.forName("org.bouncycastle.jce.provider.BouncyCastleProvider").getDeclaredConstructor().newInstance();
        java.security.Security.addProvider(provider);
        return provider;
    }
}
